"""What an index holds, folder by folder."""

import os
from collections import Counter
from dataclasses import dataclass, field

from sen_toolbox.search.index import GalleryIndex
from sen_toolbox.search.indexing import mark_of, recipe_of


@dataclass
class FolderContents:
    """What an index holds of the files that lie in one folder, not below it.

    Attributes:
        persons: Number of entries.
        files: Number of files that were indexed, with those in which nobody was found.
        skipped: Number of files that could not be read.
        missing: Number of all these files that are gone.
        ways: Number of files by how they were read.
    """

    persons: int = 0
    files: int = 0
    skipped: int = 0
    missing: int = 0
    ways: Counter[str] = field(default_factory=Counter)


def folder_contents(index: GalleryIndex) -> dict[str, FolderContents]:
    """The contents of an index by absolute path of the folder, sorted; asks for each file."""
    counts = index.counts()
    folders: dict[str, FolderContents] = {}
    names: dict[str, str] = {}
    for path, state in index.files().items():
        held = folders.setdefault(os.path.dirname(path), FolderContents())
        held.persons += counts.get(path, 0)
        held.missing += not os.path.lexists(path)
        if state.problem is not None:
            held.skipped += 1
            continue
        held.files += 1
        mark = mark_of(state.digest)
        if mark not in names:
            names[mark] = recipe_of(index, mark)
        held.ways[names[mark]] += 1
    return dict(sorted(folders.items()))
