"""Whether the records of a torch archive are as long as its tensors say."""

import io
import pickle
import zipfile
from typing import Any

# Bytes of a number in a storage of each type that torch names in an archive; others count bytes.
WIDTHS = {
    **dict.fromkeys(('HalfStorage', 'BFloat16Storage', 'ShortStorage'), 2),
    **dict.fromkeys(('FloatStorage', 'IntStorage'), 4),
    **dict.fromkeys(('DoubleStorage', 'LongStorage', 'ComplexFloatStorage'), 8),
    'ComplexDoubleStorage': 16,
}


def check_storages(archive: zipfile.ZipFile) -> None:
    """Compares the bytes of every record of numbers with those that the archive says it has.

    Up to torch 2.8 at least, a tensor of a record that is too short holds what was in the memory.

    Args:
        archive: One that ``torch.load`` has read with ``weights_only=True``, so that its pickle
            consists of what that allows.

    Raises:
        ValueError: If a record is too short; names it.
    """
    sizes = {record.filename: record.file_size for record in archive.infolist()}
    [name] = [name for name in sizes if name.rpartition('/')[2] == 'data.pkl']
    # It is read a byte at a time, of which an archive makes long work.
    reader = _Sizes(io.BytesIO(archive.read(name)))
    reader.load()
    for key, needed in reader.needed.items():
        record = f'{name.removesuffix("data.pkl")}data/{key}'
        if sizes.get(record, 0) < needed:
            raise ValueError(f'its record {record} has fewer than the {needed} bytes of its tensor')


# Python's own rendition of it, which makes no room for as many objects as a file announces.
class _Sizes(pickle._Unpickler):
    """Reads a pickle for the sizes of its storages; what it names is neither looked up nor run."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.needed: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> type:
        return type(name, (_Anything,), {'module': module})

    def persistent_load(self, saved_id: tuple) -> '_Anything':
        _, kind, key, _, count = saved_id
        needed = count * WIDTHS.get(kind.__name__, 1)
        self.needed[key] = max(self.needed.get(key, 0), needed)
        return _Anything()


class _Anything:
    """Stands for any object that a pickle makes: takes whatever it is given and keeps nothing."""

    def __new__(cls, *_: object, **__: object) -> '_Anything':
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass

    def append(self, _: object) -> None:
        """Takes an item of a list."""

    def extend(self, _: object) -> None:
        """Takes items of a list."""

    def add(self, _: object) -> None:
        """Takes an item of a set."""
