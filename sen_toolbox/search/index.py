"""What every gallery index does, wherever it keeps its vectors."""

import math
import os
import re
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from sen_toolbox.inference.identity import ModelId

# A JPEG below the folder of the crops, by plain names.
CROP = re.compile(r'([0-9A-Za-z_]+/)*[0-9A-Za-z_]+\.jpg')


# Of a vector of length 1; rounding to float16 changes it by 0.001 at most.
LONGEST = 1.01


@dataclass(frozen=True)
class FileState:
    """A file when it was indexed.

    Attributes:
        size: In bytes.
        mtime_ns: Time of the last change, in nanoseconds.
        digest: Hash of the content; empty if it could not be read.
        problem: Why it has no entry; None if it has.
    """

    size: int
    mtime_ns: int
    digest: str
    problem: str | None = None


@dataclass(frozen=True)
class Entry:
    """One person of the gallery.

    Attributes:
        path: Absolute path of the file.
        identity: Who it is, if known.
        place: Where in the file, as JSON values; empty for the whole of an image.
    """

    path: str
    identity: str | None = None
    place: Mapping = field(default_factory=dict)


class GalleryIndex(Protocol):
    """Entries with their vectors; what was written once stays written, whole, after a crash.

    Attributes:
        model: What makes its vectors.
    """

    model: ModelId

    @property
    def folder(self) -> Path | None:
        """Where it lies on this machine; None if it is in a database."""

    def writing(self) -> AbstractContextManager:
        """Keeps other writers out; makes the index if there is none.

        Raises:
            BlockingIOError: If another process is writing.
            ValueError: If the index was made with another model, or the folder holds other things.
        """

    def files(self) -> dict[str, FileState]:
        """Every file that was indexed, by its path, with those that failed."""

    def write(
        self,
        files: Mapping[str, FileState],
        entries: Sequence[Entry],
        vectors: np.ndarray,
        *,
        removed: Collection[str] = (),
    ) -> None:
        """Replaces all that is known of some files, at once or not at all.

        Args:
            files: The new state by path.
            entries: Their entries.
            vectors: L2-normalised embeddings (entries, D) float32.
            removed: Paths of files that are gone.

        Raises:
            ValueError: If a vector is not finite or longer than 1, or an entry has not one of D
                numbers.
        """

    def restamp(self, files: Mapping[str, FileState]) -> None:
        """Writes new times of files whose content is as it was; their entries stay."""

    def identify(self, identities: Mapping[str, str]) -> None:
        """Writes who is in some files, by path."""

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        within: str | None = None,
        approximate: bool = False,
    ) -> list[list[tuple[Entry, float]]]:
        """The k best entries by inner product for each query (Q, D), best first.

        Args:
            queries: L2-normalised embeddings, float32.
            k: From 1; fewer are returned if there are fewer.
            within: Absolute path of a folder to stay in.
            approximate: Whether to trade recall for speed; see :meth:`build_approximate`.

        Raises:
            FileNotFoundError: If there is no such index.
            ValueError: If the index was made with another model, is damaged, or has no structure
                for an approximate search.
        """

    def items(self, paths: Collection[str] | None = None) -> Iterator[tuple[Entry, np.ndarray]]:
        """Entries, all or those of some files, each with its vector (D,) float32."""

    def counts(self) -> dict[str, int]:
        """Number of entries of each file that has some, by its path."""

    def recipes(self) -> dict[str, str]:
        """What the marks of files say of how they were read, as far as it is known."""

    def note_recipe(self, mark: str, recipe: str) -> None:
        """Writes what a mark says."""

    def details(self) -> dict[str, str]:
        """What else there is to know, for people to read, by what it is."""

    def build_approximate(self, kind: str = 'ivf') -> None:
        """Prepares approximate search of what is indexed now.

        Args:
            kind: 'ivf', groups of vectors, or 'hnsw', a graph, which only a Milvus server makes.

        Raises:
            ValueError: If there is no such kind here, or there are too few entries.
        """

    def compact(self) -> None:
        """Frees the room of removed entries where that is worth it."""

    def __len__(self) -> int:
        """Number of entries."""


def check_vectors(vectors: np.ndarray, count: int, dim: int) -> None:
    """Refuses what a writer of an index cannot take.

    Raises:
        ValueError: If there are not ``count`` vectors of ``dim`` numbers, or one is not finite or
            longer than 1.
    """
    if vectors.shape != (count, dim) or not np.isfinite(vectors).all():
        raise ValueError(f'expected {count} finite vectors of {dim} numbers, got {vectors.shape}')
    if are_too_long(vectors):
        raise ValueError('expected L2-normalised vectors, got some that are longer than 1')


def are_too_long(vectors: np.ndarray) -> bool:
    """Whether one of some vectors (n, D) is longer than 1, as far as float16 keeps the length.

    A flipped bit may make a vector so long that it is the best result of every query.
    """
    # One that overflows is longer, too.
    with np.errstate(over='ignore'):
        return bool((np.linalg.norm(vectors, axis=1) > LONGEST).any())


def checked_entry(path: object, identity: object, place: object) -> Entry:
    """An entry as it was read from an index, which may come from elsewhere.

    Raises:
        ValueError: If a value is none that an index has; says which.
    """
    if not isinstance(path, str) or not os.path.isabs(path) or '\0' in path:
        raise ValueError(f'the path of a file is {_short(path)}')
    if not isinstance(identity, str | None):
        raise ValueError(f'{path!r} has the identity {_short(identity)}')
    if not isinstance(place, dict) or not all(
        check(place[key]) for key, check in _PLACE.items() if key in place
    ):
        raise ValueError(f'{path!r} has the place {_short(place)}')
    return Entry(path, identity, place)


def _short(value: object) -> str:
    return textwrap.shorten(repr(value), 100)


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value)


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_crop(value: object) -> bool:
    return isinstance(value, str) and bool(CROP.fullmatch(value))


# What is read from a place; whoever reads files in a way of his own may add to it.
_PLACE = dict(time=_is_number, frame=_is_number, score=_is_number, box=_is_box, crop=_is_crop)


def wrong_model(where: str, made_with: str, given: ModelId) -> ValueError:
    """The error for an index whose vectors another model made."""
    return ValueError(
        f'index {where} was made with the model {made_with}, not with {given}: search it with that '
        'model, or index into another place'
    )


def open_index(
    name: str | os.PathLike,
    model: ModelId | None = None,
    *,
    uri: str | None = None,
    half: bool = False,
) -> GalleryIndex:
    """The index in a folder, or in a vector database.

    Args:
        name: A folder; with ``uri`` the name of a collection.
        model: What makes the vectors; None for what made those of an index that is there.
        uri: Address of a Milvus server or cluster, ``http://host:19530``, or a file ``*.db`` for
            Milvus Lite, which runs inside this process.
        half: Whether a new folder stores float16.

    Raises:
        FileNotFoundError: If no model is given and there is no index.
        ValueError: If no model is given and the index is damaged.
    """
    if uri is None:
        from sen_toolbox.search.local_index import LocalIndex

        return LocalIndex(name, model=model, half=half)
    from sen_toolbox.search.milvus_index import MilvusIndex

    return MilvusIndex(str(name), uri=uri, model=model)
