"""Whether a file of groups is what this toolbox has faiss write, before faiss reads it.

faiss reads whatever a file asks for: any kind of index, of any size, with vectors in other files
that it names. A file here is an index "IVF, 16 bit" of faiss/impl/index_write.cpp:

    groups  rows, centres, and where the rows are        IwSq
    centres the centre of each group, float32             IxFI
    codes   how a vector is stored: as float16
    lists   how many vectors each group has               ilar
            codes and rows (int64), group by group
"""

import struct
from pathlib import Path

import numpy as np

# Kind; dim, rows, two that nobody reads, trained, metric; groups, groups looked at.
_HEAD = struct.Struct('<4s iq16sBi QQ')
# Kind; dim, groups, two that nobody reads, trained, metric; numbers that follow.
_CENTRES = struct.Struct('<4s iq16sBi Q')
# Map of rows: none; its length. Type, range (two), dim, bytes of a vector, numbers that follow.
# Bytes of a vector, whether what is stored is the difference from the centre. Kind; groups, bytes
# of a vector; kind of the list of lengths; their number.
_CODES = struct.Struct('<BQ iifQQQ QB 4sQQ 4sQ')
_INNER_PRODUCT, _NO_MAP, _FLOAT16 = 0, 0, 4


def check_lists_file(path: Path, *, rows: int, dim: int) -> None:
    """Refuses a file that is not of ``rows`` vectors of length ``dim``, byte by byte of its head.

    Raises:
        ValueError: Names the file.
    """
    if not (path.is_file() and _is_as_written(path, rows, dim)):
        raise ValueError(
            f'{path} is damaged or not of this index: prepare approximate search again with '
            'sen-search index --approximate'
        )


def _is_as_written(path: Path, rows: int, dim: int) -> bool:
    size, bytes_each = path.stat().st_size, 2 * dim
    with path.open('rb') as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return False
        kind, *shape, groups, probes = _HEAD.unpack(head)
        # The length of all that follows is known from here; nothing is read that is not there.
        start = _HEAD.size + _CENTRES.size + 4 * groups * dim + _CODES.size + 8 * groups
        if size != start + rows * (bytes_each + 8) or not 1 <= probes <= groups:
            return False
        centres = _CENTRES.unpack(file.read(_CENTRES.size))
        file.seek(4 * groups * dim, 1)
        codes = _CODES.unpack(file.read(_CODES.size))
        lengths = np.frombuffer(file.read(8 * groups), '<u8')
    flat = (b'IxFI', dim, groups, centres[3], 1, _INNER_PRODUCT, groups * dim)
    stored = (_NO_MAP, 0, _FLOAT16, *codes[3:5], dim, bytes_each, 0, bytes_each, 1)
    return (
        (kind, *shape) == (b'IwSq', dim, rows, shape[2], 1, _INNER_PRODUCT)
        and centres == flat
        and codes == (*stored, b'ilar', groups, bytes_each, b'full', groups)
        # Each alone, since their sum may wrap around.
        and int(lengths.max()) <= rows
        and int(lengths.sum()) == rows
    )
