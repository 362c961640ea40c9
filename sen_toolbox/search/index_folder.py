"""What lies in the folder of an index. The toolbox writes and removes nothing else there."""

import os
import re
import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

DATABASE = 'index.sqlite'
LOCK = 'lock'
# The people who were cut out of photos and videos.
CROPS = 'crops'
# SQLite puts the last three beside a database.
DATABASE_FILES = (DATABASE, *(f'{DATABASE}-{end}' for end in ('journal', 'wal', 'shm')))
# What :func:`vectors_name` and :func:`lists_name` give; the latter also while it is written.
_NUMBER = '(0|[1-9][0-9]*)'
_DATA = re.compile(rf'vectors\.{_NUMBER}|lists\.{_NUMBER}\.{_NUMBER}(\.[0-9a-f]+\.partial)?')
# What a journal ends with that names another file, which SQLite deletes once it has read the
# journal. That takes several databases in one transaction, so those of an index have none.
_NAMES_ANOTHER = bytes.fromhex('d9d505f920a163d7')


def vectors_name(generation: int) -> str:
    """The file of vectors after some compactions."""
    return f'vectors.{generation}'


def lists_name(generation: int, rows: int) -> str:
    """The file of groups of the first ``rows`` vectors."""
    return f'lists.{generation}.{rows}'


def crops_folder(index: str | os.PathLike) -> Path:
    """Where the crops of an index are; that of a collection in a database has the same name."""
    return Path(os.path.abspath(index)) / CROPS


def is_index_folder(names: Collection[str]) -> bool:
    """Whether a folder that holds these names looks like that of an index."""
    return DATABASE in names and any(map(_DATA.fullmatch, names))


def check_files(folder: Path) -> None:
    """Refuses a folder from elsewhere whose files lead out of it.

    Raises:
        ValueError: If a file of the index is a link or not a file, or a journal names another file.
    """
    names = [*DATABASE_FILES, LOCK]
    if folder.is_dir():
        names += filter(_DATA.fullmatch, os.listdir(folder))
    for name in names:
        path = folder / name
        # Others may be writing: a file that was there may be gone.
        with suppress(FileNotFoundError, NotADirectoryError):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise ValueError(
                    f'{path} is a link or not a file, which no index has: take another folder as '
                    'index'
                )
    journal = folder / f'{DATABASE}-journal'
    with suppress(FileNotFoundError, NotADirectoryError):
        if _ends_with(journal, _NAMES_ANOTHER):
            raise ValueError(
                f'{journal} names another file, which no index does: take another folder as index'
            )


def check_empty(folder: Path) -> None:
    """Refuses to make an index beside anything that is not what its making leaves when killed.

    Raises:
        ValueError: If the folder holds something else; names it.
    """
    empty = (LOCK, vectors_name(0))
    for path in sorted(folder.iterdir()):
        is_own = path.name in DATABASE_FILES or (path.name in empty and not path.stat().st_size)
        if not is_own:
            raise ValueError(
                f'{folder} is not an index and holds {path.name!r}: an index takes a folder of '
                'its own, give a new one'
            )


def check_crops(folder: Path) -> None:
    """Refuses a folder of crops, in an index from elsewhere, that leads out of it.

    Raises:
        ValueError: If it is a link, or a folder of its two levels is.
    """
    for path in (folder, *folder.glob('*'), *folder.glob('*/*')):
        if path.is_symlink():
            raise ValueError(
                f'{path} is a link, which no crops of an index are: take another folder as index'
            )


def remove_leftovers(folder: Path, kept: Collection[str]) -> None:
    """Deletes files of vectors and groups that a crash or a compaction left behind.

    Args:
        folder: Folder of an index.
        kept: Names of those in use.
    """
    for path in folder.iterdir():
        if _DATA.fullmatch(path.name) and path.name not in kept and is_plain(path):
            with suppress(PermissionError):
                path.unlink()


def is_plain(path: Path) -> bool:
    """Whether there is a regular file, and not a link to one."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def _ends_with(path: Path, ending: bytes) -> bool:
    with path.open('rb') as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(ending)))
        return file.read() == ending
