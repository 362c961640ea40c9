"""Brings an index in line with the files of a gallery, batch by batch."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from sen_toolbox.inference.identity import ModelId
from sen_toolbox.io import check_regular
from sen_toolbox.pictures import MAX_BYTES
from sen_toolbox.search.images import Crop, Found, find_files, read_whole
from sen_toolbox.search.index import Entry, FileState, GalleryIndex
from sen_toolbox.search.shard import Shard
from sen_toolbox.search.suffixes import IMAGE_SUFFIXES

# Each thread decodes one image at a time; more than a few only take memory.
READERS = min(8, os.cpu_count() or 1)


class Encoder(Protocol):
    """What makes vectors: a model in torch, or an exported one."""

    @property
    def model_id(self) -> ModelId:
        """Name, fingerprint and length of a vector."""

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The model's input of an RGB image (H, W, 3) uint8; called from several threads."""

    def embed_prepared(self, images: np.ndarray) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of stacked inputs."""

    def embed_text(self, sentences: Sequence[str]) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of sentences."""

    def unknown_words(self, sentence: str) -> list[str]:
        """Words of a sentence that mean nothing to the model."""

    def usual_score(self, sentence: str) -> float | None:
        """What the best score for a description of this length usually is, if known."""


@dataclass(frozen=True)
class Reading:
    """How the persons come out of files.

    Attributes:
        read: The SHA-256 of the content of a file, and the persons in it, who are looked for when
            they are asked for; both raise ValueError, with the reason, if they cannot.
        suffixes: Suffixes of the files to take from folders.
        recipe: Says what ``read`` does, for people; empty for whole images.
        max_bytes: Larger files are skipped.
        parallel: Whether several files are read at once and committed together. Otherwise each is
            committed by itself, however many persons it holds, and an interruption stops it.
    """

    read: Callable[[str], tuple[str, Iterable[Crop]]] = read_whole
    suffixes: Collection[str] = IMAGE_SUFFIXES
    recipe: str = ''
    max_bytes: float = MAX_BYTES
    parallel: bool = True


WHOLE_IMAGES = Reading()


@dataclass
class IndexReport:
    """What an indexing did.

    Attributes:
        added: Files that were not in the index.
        changed: Files whose content had changed.
        removed: Files that were gone.
        unchanged: Files that were left as they were.
        skipped: Reason by path of each file that has no entry, or folder that was not listed.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def update_index(
    index: GalleryIndex,
    encoder: Encoder,
    source: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    identities: Mapping[str, str] | None = None,
    batch_size: int = 64,
    reading: Reading = WHOLE_IMAGES,
    reindex: bool = False,
    excluded: Collection[str | os.PathLike] = (),
    shard: Shard | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> IndexReport:
    """Indexes new and changed files, forgets those gone, and leaves the rest.

    A file is unchanged if its size and time are the same, or else its content is. Each batch is
    committed before the next begins, so an interrupted run continues where it stopped, with the
    same batches and hence the same bits.

    Args:
        index: Where to write.
        encoder: What makes the vectors.
        source: A folder, or a list of files and folders. What is gone is noticed below the folders
            and among the files of the list.
        identities: Who is in a file, by its absolute path.
        batch_size: Files in a batch, and crops that are embedded at once.
        reading: How the persons come out of the files.
        reindex: Whether files that are in the index by another recipe lose those entries for new.
        excluded: Folders that are not part of any gallery, besides that of the index.
        shard: Which part of the files to look at: others are neither indexed nor removed. All
            parts together leave what one call without it would.
        progress: Called with the files done and to do.

    Raises:
        FileNotFoundError: If a folder does not exist or holds no images; nothing is removed then.
        BlockingIOError: If another process is writing the index.
        ValueError: If the index was made with another model, a source lies in a folder that is not
            part of any gallery, or, without ``reindex``, files were read by another recipe.
    """
    source = source if isinstance(source, str | os.PathLike) else list(source)
    excluded = [*excluded, *([] if index.folder is None else [index.folder])]
    _check_sources(source, excluded)
    found = find_files(source, reading.suffixes, excluded=excluded)
    identities = identities or {}
    if shard is not None:
        # Another machine writes the others, perhaps at this moment.
        found = replace(found, paths=[p for p in found.paths if shard.holds(p, found.folders)])
        identities = {p: who for p, who in identities.items() if shard.holds(p, found.folders)}
    with index.writing():
        known = index.files()
        if shard is not None:
            known = {p: state for p, state in known.items() if shard.holds(p, found.folders)}
        mark = _mark(reading.recipe)
        if not reindex:
            _check_recipe(index, known, found, mark)
        if mark and mark not in index.recipes():
            index.note_recipe(mark, reading.recipe)
        report = IndexReport(skipped=dict(found.problems))
        gone = _gone(known, found)
        todo = []
        for path in found.paths:
            old = known.get(path)
            stamp = _stamp(path, reading.max_bytes)
            if isinstance(stamp, str):
                if old:
                    gone.add(path)
                if not old or os.path.lexists(path):
                    report.skipped[path] = stamp
            elif (
                old
                and (old.size, old.mtime_ns) == (stamp.st_size, stamp.st_mtime_ns)
                and mark_of(old.digest) == mark
            ):
                report.unchanged += old.problem is None
                if old.problem:
                    report.skipped[path] = old.problem
            else:
                todo.append((path, stamp))
        if gone:
            index.write({}, [], np.empty((0, encoder.model_id.dim), np.float32), removed=gone)
            report.removed = len(gone)
        index.identify({p: who for p, who in identities.items() if p in known})
        done = 0
        with closing(_read_ahead(todo, known, encoder, reading, batch_size)) as batches:
            for results in batches:
                _commit(index, encoder, results, known, identities, batch_size, report)
                done += len(results)
                if progress:
                    progress(done, len(todo))
        index.compact()
    return report


@dataclass(frozen=True)
class _Result:
    path: str
    state: FileState
    same: bool = False
    vectors: Sequence[np.ndarray] = ()
    inputs: Sequence[np.ndarray] = ()
    places: Sequence[Mapping] = ()


def _stamp(path: str, max_bytes: float) -> os.stat_result | str:
    """The state of a file, or why it has none."""
    try:
        status = os.stat(path)
        check_regular(status, max_bytes)
    except OSError as error:
        return f'cannot be opened ({error.strerror})'
    except ValueError as error:
        return str(error)
    return status


def _check_sources(
    source: str | os.PathLike | Iterable[str | os.PathLike],
    excluded: Collection[str | os.PathLike],
) -> None:
    for item in [source] if isinstance(source, str | os.PathLike) else source:
        path = Path(os.path.realpath(item))
        for folder in excluded:
            if path.is_relative_to(os.path.realpath(folder)):
                raise ValueError(
                    f'{os.fspath(item)} lies in {folder}, which the index keeps its own files in: '
                    'give folders of images, or keep the index elsewhere (--index)'
                )


def _check_recipe(
    index: GalleryIndex, known: Mapping[str, FileState], found: Found, mark: str
) -> None:
    """Nobody shall lose the entries of a file by leaving out an option."""
    others = [
        path
        for path in found.paths
        if path in known and known[path].problem is None and mark_of(known[path].digest) != mark
    ]
    if others:
        was = recipe_of(index, mark_of(known[others[0]].digest))
        raise ValueError(
            f'{len(others)} files were indexed in another way, such as {others[0]} as {was}: index '
            'them that way, or replace their entries with --reindex (reindex=True)'
        )


def _gone(known: Mapping[str, FileState], found: Found) -> set[str]:
    """Indexed files that should be below the folders of this source and are not."""
    present = set(found.paths)
    below = tuple(os.path.join(folder, '') for folder in found.folders)
    # What cannot be listed now may still be there.
    unlisted = tuple(os.path.join(folder, '') for folder in found.problems)
    return {
        path
        for path in known
        if path not in present and path.startswith(below) and not path.startswith(unlisted)
    }


def _read_ahead(
    todo: Sequence[tuple[str, os.stat_result]],
    known: Mapping[str, FileState],
    encoder: Encoder,
    reading: Reading,
    batch_size: int,
) -> Generator[list[_Result], None, None]:
    """What is to be committed together; threads read the next while the caller has one."""
    read_one = partial(_read, encoder=encoder, reading=reading, batch_size=batch_size)

    def read(items: Sequence[tuple[str, os.stat_result]]) -> list[_Result]:
        return [read_one(path, status, known.get(path)) for path, status in items]

    if not reading.parallel:
        for item in todo:
            yield read([item])
        return
    with ThreadPoolExecutor(READERS) as pool:
        begun: deque[Iterator[list[_Result]]] = deque()
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            # A thread takes its share at once: handing out each file costs small models 3 %.
            share = -(-len(batch) // READERS)
            shares = [batch[first : first + share] for first in range(0, len(batch), share)]
            begun.append(pool.map(read, shares))
            if len(begun) > 1:
                yield [result for part in begun.popleft() for result in part]
        for parts in begun:
            yield [result for part in parts for result in part]


def _read(
    path: str,
    status: os.stat_result,
    old: FileState | None,
    *,
    encoder: Encoder,
    reading: Reading,
    batch_size: int,
) -> _Result:
    state = partial(FileState, status.st_size, status.st_mtime_ns)
    digest, inputs, vectors, places = '', [], [], []
    try:
        content, crops = reading.read(path)
        # 64 characters for recipe and content.
        digest = (_mark(reading.recipe) + content)[:64]
        if old and old.digest == digest:
            return _Result(path, state(digest, old.problem), same=True)
        for crop in crops:
            places.append(crop.place)
            inputs.append(encoder.prepare(crop.image))
            # A long video holds more persons than the memory.
            if not reading.parallel and len(inputs) == batch_size:
                vectors.append(encoder.embed_prepared(np.stack(inputs)))
                inputs.clear()
    except OSError as error:
        return _Result(path, state(digest, f'cannot be read ({error.strerror})'))
    except (ValueError, MemoryError) as error:
        return _Result(path, state(digest, str(error) or 'is too large for the memory'))
    return _Result(path, state(digest), vectors=vectors, inputs=inputs, places=places)


def _mark(recipe: str) -> str:
    """What the digests of files read by a recipe begin with; nothing for whole images."""
    return f'{hashlib.sha256(recipe.encode()).hexdigest()[:12]}:' if recipe else ''


def mark_of(digest: str) -> str:
    """The mark of the recipe that a file was read by; empty for whole images."""
    return ''.join(digest.rpartition(':')[:2])


def recipe_of(index: GalleryIndex, mark: str) -> str:
    """How files with a mark were read, for people."""
    if not mark:
        return 'whole images'
    return f'people cut out, {index.recipes().get(mark, "by other settings")}'


def _commit(
    index: GalleryIndex,
    encoder: Encoder,
    results: Sequence[_Result],
    known: Mapping[str, FileState],
    identities: Mapping[str, str],
    batch_size: int,
    report: IndexReport,
) -> None:
    inputs = [image for result in results for image in result.inputs]
    parts = [
        encoder.embed_prepared(np.stack(inputs[start : start + batch_size]))
        for start in range(0, len(inputs), batch_size)
    ]
    # A result has vectors of its own only where it is alone.
    parts = [vectors for result in results for vectors in result.vectors] + parts
    vectors = np.concatenate([np.empty((0, encoder.model_id.dim), np.float32), *parts])
    entries = [
        Entry(result.path, identities.get(result.path), place)
        for result in results
        for place in result.places
    ]
    if same := {result.path: result.state for result in results if result.same}:
        index.restamp(same)
    if files := {result.path: result.state for result in results if not result.same}:
        index.write(files, entries, vectors)
    for result in results:
        if result.state.problem:
            report.skipped[result.path] = result.state.problem
        elif result.same:
            report.unchanged += 1
        elif result.path in known and known[result.path].problem is None:
            report.changed += 1
        else:
            report.added += 1
