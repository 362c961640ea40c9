"""The values that an index has of itself, checked: it may come from elsewhere."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sen_toolbox.inference.identity import ModelId
from sen_toolbox.messages import one_line
from sen_toolbox.search.index_folder import DATABASE, lists_name, vectors_name

FORMAT = '2'
DTYPES = ('float16', 'float32')
MAX_DIM = 65536
# Before the mark of a recipe; the value says what it is.
RECIPE = 'recipe '


@dataclass(frozen=True)
class IndexValues:
    """What the database of an index says of it.

    Attributes:
        model: What made the vectors.
        dtype: How a number is stored, one of ``DTYPES``.
        rows: Vectors in the file, with those of removed entries.
        live: Entries.
        generation: How often the vectors were compacted.
        listed: Vectors in groups for approximate search; None if there are no groups.
        recipes: What the marks of files say of how they were read.
    """

    model: ModelId
    dtype: str
    rows: int
    live: int
    generation: int
    listed: int | None
    recipes: Mapping[str, str]

    @property
    def vectors(self) -> str:
        """Name of the file of vectors."""
        return vectors_name(self.generation)

    @property
    def lists(self) -> str | None:
        """Name of the file of groups."""
        return None if self.listed is None else lists_name(self.generation, self.listed)


def read_values(folder: Path, meta: Mapping[str, object]) -> IndexValues:
    """The values of an index.

    Args:
        folder: Its folder, for messages.
        meta: Keys and values of the table ``meta``.

    Raises:
        ValueError: If one is missing or makes no sense; names it.
    """

    def text(key: str) -> str:
        value = meta.get(key)
        if not isinstance(value, str):
            raise damaged(folder, f'{key!r} is missing')
        return value

    def number(key: str) -> int:
        # As many digits as SQLite keeps of a whole number.
        if not re.fullmatch('[0-9]{1,18}', text(key)):
            raise damaged(folder, f'{key!r} is {text(key)[:40]!r}')
        return int(text(key))

    text('format')
    rows, live, generation, dim = map(number, ('rows', 'live', 'generation', 'dim'))
    listed = None
    if 'lists' in meta:
        listed = int('0' + ''.join(re.findall('[0-9]{1,18}$', text('lists'))))
    values = IndexValues(
        ModelId(text('model'), text('fingerprint'), dim),
        text('dtype'),
        rows,
        live,
        generation,
        listed,
        {
            key.removeprefix(RECIPE): value
            for key, value in meta.items()
            if key.startswith(RECIPE) and isinstance(value, str)
        },
    )
    # Names are built from numbers; one that differs may lead anywhere.
    wrong = {
        'vectors': text('vectors') != values.vectors,
        'lists': listed is not None and (text('lists') != values.lists or listed > rows),
        'dtype': values.dtype not in DTYPES,
        'dim': not 1 <= dim <= MAX_DIM,
        'live': live > rows,
    }
    for key, is_wrong in wrong.items():
        if is_wrong:
            raise damaged(folder, f'{key!r} is {text(key)[:40]!r}')
    return values


def damaged(folder: Path, what: str) -> ValueError:
    """The error for a folder that holds a damaged index, or something else."""
    return ValueError(
        f'{folder / DATABASE} is damaged or not an index ({one_line(what)}): index into another '
        'folder'
    )
