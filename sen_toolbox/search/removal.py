"""Forgets what an index holds of files, whether they are still there or not."""

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sen_toolbox.search.index import GalleryIndex
from sen_toolbox.search.index_folder import check_crops

# Below the folder of the crops, that of one file.
_CROPS_OF_ONE = re.compile('[0-9a-f]{2}/[0-9a-f]{32}')


@dataclass(frozen=True)
class Removal:
    """What was forgotten.

    Attributes:
        files: Number of files, with those that had no entry.
        persons: Number of entries.
    """

    files: int
    persons: int


def remove_sources(
    index: GalleryIndex, crops: Path, sources: str | os.PathLike | Iterable[str | os.PathLike]
) -> Removal:
    """Removes the entries of some files, and of all files below some folders, with their crops.

    Args:
        index: Where to remove.
        crops: Folder of the crops.
        sources: Files and folders; they need not exist.

    Raises:
        BlockingIOError: If another process is writing the index.
        ValueError: If the index holds nothing of one of them; nothing is removed then.
    """
    listed = [sources] if isinstance(sources, str | os.PathLike) else sources
    names = [os.path.abspath(os.fspath(source)) for source in listed]
    # What is not there shall not be made.
    _chosen(index, names)
    check_crops(crops)
    with index.writing():
        gone = _chosen(index, names)
        entries = [entry for entry, _ in index.items(gone)]
        empty = np.empty((0, index.model.dim), np.float32)
        index.write({}, [], empty, removed=gone)
        for folder in {e.place['crop'].rpartition('/')[0] for e in entries if 'crop' in e.place}:
            if _CROPS_OF_ONE.fullmatch(folder):
                shutil.rmtree(crops / folder, ignore_errors=True)
                with suppress(OSError):  # others are in it
                    (crops / folder).parent.rmdir()
        index.compact()
    return Removal(len(gone), len(entries))


def _chosen(index: GalleryIndex, names: Iterable[str]) -> set[str]:
    known, chosen = index.files(), set()
    for name in names:
        found = {p for p in known if p == name or p.startswith(os.path.join(name, ''))}
        if not found:
            raise ValueError(
                f'the index holds nothing of {name}; sen-search info lists its folders'
            )
        chosen |= found
    return chosen
