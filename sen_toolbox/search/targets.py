"""What a command may write over: its own output of before, and nothing else."""

import mmap
import os
from pathlib import Path

from sen_toolbox.search.index_folder import is_plain


def check_target(path: str | os.PathLike, suffix: str, mark: bytes) -> None:
    """Refuses a place for a new file where something else would be lost.

    Args:
        path: The file to write.
        suffix: What its name must end with.
        mark: What every file of its kind holds that this toolbox wrote.

    Raises:
        ValueError: If the name ends otherwise, or is that of anything without the mark.
    """
    path = Path(path)
    if path.suffix.lower() != suffix:
        raise ValueError(f'{path} is to be written: give it a name that ends in {suffix}')
    if os.path.lexists(path) and not (is_plain(path) and _holds(path, mark)):
        raise ValueError(f'{path} exists and was not written by this toolbox: give another name')


def _holds(path: Path, mark: bytes) -> bool:
    if not path.stat().st_size:  # nothing cannot be mapped
        return True
    with (
        path.open('rb') as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(mark) >= 0
