"""What every gallery index does, wherever it keeps its vectors."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sen_toolbox.inference.identity import ModelId


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
    """Entries with their vectors; what was written once stays written, whole, after a crash."""

    def writing(self) -> AbstractContextManager:
        """Keeps other writers out; makes the index if there is none.

        Raises:
            BlockingIOError: If another process is writing.
            ValueError: If the index was made with another model.
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
            ValueError: If a vector is not finite, or there is not one of length D an entry.
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

    def build_approximate(self) -> None:
        """Prepares approximate search of what is indexed now."""

    def compact(self) -> None:
        """Frees the room of removed entries where that is worth it."""

    def __len__(self) -> int:
        """Number of entries."""


def check_vectors(vectors: np.ndarray, count: int, dim: int) -> None:
    """Refuses what a writer of an index cannot take.

    Raises:
        ValueError: If there are not ``count`` vectors of ``dim`` numbers, or one is not finite.
    """
    if vectors.shape != (count, dim) or not np.isfinite(vectors).all():
        raise ValueError(f'expected {count} finite vectors of {dim} numbers, got {vectors.shape}')


def wrong_model(where: str, made_with: str, given: ModelId) -> ValueError:
    """The error for an index whose vectors another model made."""
    return ValueError(
        f'index {where} was made with the model {made_with}, not with {given}: search it with that '
        'model, or index into another place'
    )


def open_index(
    name: str | os.PathLike, model: ModelId, *, uri: str | None = None, half: bool = False
) -> GalleryIndex:
    """The index in a folder, or in a vector database.

    Args:
        name: A folder; with ``uri`` the name of a collection.
        model: What makes the vectors.
        uri: Address of a Milvus server or cluster, ``http://host:19530``, or a file ``*.db`` for
            Milvus Lite, which runs inside this process.
        half: Whether a new folder stores float16.
    """
    if uri is None:
        from sen_toolbox.search.local_index import LocalIndex

        return LocalIndex(name, model=model, half=half)
    from sen_toolbox.search.milvus_index import MilvusIndex

    return MilvusIndex(str(name), uri=uri, model=model)
