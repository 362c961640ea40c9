"""A part of a gallery, so that several machines can index it into one collection."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts; every file is in exactly one of them.

    Which one, the path of the file below the indexed folder decides: machines that mount the folder
    elsewhere agree, and files that come or go move no other.

    Attributes:
        number: Which part, from 1.
        count: Number of parts.

    Raises:
        ValueError: If there is no such part.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(f'there is no shard {self.number} of {self.count}: the first is 1')

    @classmethod
    def parse(cls, text: str) -> 'Shard':
        """The part that a text names, such as '1/4'.

        Raises:
            ValueError: If it names none.
        """
        if not re.fullmatch('[0-9]{1,6}/[0-9]{1,6}', text):
            raise ValueError(f'a shard is written NUMBER/COUNT, such as 1/4, got {text!r}')
        number, _, count = text.partition('/')
        return cls(int(number), int(count))

    def holds(self, path: str, folders: Sequence[str]) -> bool:
        """Whether a file belongs to this part.

        Args:
            path: Its absolute path; it need not exist.
            folders: Absolute paths of the folders that are indexed. The outermost that holds the
                file counts, whatever their order; of a file that none of them holds, its name does.
        """
        above = [folder for folder in folders if path.startswith(os.path.join(folder, ''))]
        base = min(above, key=len, default=os.path.dirname(path))
        name = os.fsencode(os.path.relpath(path, base))
        return int.from_bytes(hashlib.sha256(name).digest()[:8]) % self.count == self.number - 1
