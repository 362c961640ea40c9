"""A gallery in a folder: entries in SQLite, vectors in one file that is searched in place.

Vectors are only ever appended, and forced to disk before the SQLite transaction that counts them;
what a crash leaves beyond the count is overwritten by the next writer. A committed row therefore
never changes, and SQLite rolls back the transaction that a crash cut off.
"""

import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
from filelock import FileLock, Timeout

from sen_toolbox.search.approximate_search import build_lists, open_lists, search_lists
from sen_toolbox.search.exact_search import search_exactly
from sen_toolbox.search.index import (
    Entry,
    FileState,
    ModelId,
    are_too_long,
    check_vectors,
    wrong_model,
)
from sen_toolbox.search.index_database import (
    IndexDatabase,
    entry_row,
    file_row,
    live_rows,
    read_entry,
    read_file,
    read_path,
    set_value,
)
from sen_toolbox.search.index_folder import (
    DATABASE,
    LOCK,
    check_empty,
    lists_name,
    remove_leftovers,
    vectors_name,
)
from sen_toolbox.search.index_values import FORMAT, RECIPE, IndexValues, damaged
from sen_toolbox.search.vector_file import (
    append_vectors,
    check_vector_file,
    copy_vectors,
    create_vector_file,
    map_vectors,
)

WRITE_FILE = 'INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)'


class LocalIndex:
    """A :class:`~sen_toolbox.search.index.GalleryIndex` in a folder of its own.

    The folder may come from elsewhere: nothing in it chooses a path, and sizes and counts are
    checked against the files. What the index did not make is neither written nor removed.

    Args:
        folder: The folder; made at the first writing.
        model: What makes the vectors; None for what made those of an index that is there.
        half: Whether a new index stores float16: half the disk and time, scores exact to about
            1e-4. An old index stays what it is.

    Raises:
        FileNotFoundError: If no model is given and there is no index.
        ValueError: If no model is given and the index is damaged.
    """

    def __init__(
        self, folder: str | os.PathLike, *, model: ModelId | None = None, half: bool = False
    ) -> None:
        self.folder = Path(folder)
        self._database = IndexDatabase(self.folder)
        self._half = half
        self._vectors: tuple[tuple[Path, int], np.ndarray] | None = None
        self._lists: tuple[Path, faiss.Index] | None = None
        # The values whose counts were found to be right.
        self._counted: IndexValues | None = None
        if model is None:
            with self._database.reading() as (db, values):
                self._check_counts(db, values)
                model = values.model
        self.model = model

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keeps other writers out; makes the index if there is none.

        Raises:
            BlockingIOError: If another process is writing.
            PermissionError: If the folder may not be written.
            ValueError: If the index was made with another model, or the folder holds other things.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # Happens in containers: a mounted folder belongs to somebody outside.
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(
                f'the index {self.folder} may not be written by this user: take another folder '
                'as index, or call this as its owner'
            )
        if not self._database.is_made():
            try:
                check_empty(self.folder)
            except ValueError:
                # Unless another process has just made it.
                if not self._database.is_made():
                    raise
        # The system lets go of the lock when the process ends, however it ends.
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise BlockingIOError(
                f'another process is writing index {self.folder}: wait until it is done, or '
                'index into another folder'
            ) from None
        try:
            if not self._database.is_made():
                self._make()
            with self._reading() as (_, values):
                remove_leftovers(self.folder, _data_files(values))
            with self._database.kept_open():
                yield
        finally:
            lock.release()

    def files(self) -> dict[str, FileState]:
        """Every file that was indexed, by its path, with those that failed."""
        if not self._database.is_made():
            return {}
        with self._reading() as (db, _):
            rows = db.execute('SELECT path, size, mtime_ns, digest, problem FROM files')
            return dict(self._database.checked(read_file, row) for row in rows)

    def write(
        self,
        files: Mapping[str, FileState],
        entries: Sequence[Entry],
        vectors: np.ndarray,
        *,
        removed: Collection[str] = (),
    ) -> None:
        """Replaces all that is known of some files, at once or not at all."""
        check_vectors(vectors, len(entries), self.model.dim)
        with self._database.writing() as db:
            values = self._database.values(db)
            self._check(db, values)
            rows = values.rows
            if len(vectors):
                append_vectors(self.folder / values.vectors, vectors, rows, values.dtype)
            gone, given = ([(os.fsencode(path),) for path in paths] for paths in (removed, files))
            before = db.total_changes
            db.executemany('DELETE FROM entries WHERE path = ?', gone + given)
            live = values.live + len(entries) - (db.total_changes - before)
            db.executemany('DELETE FROM files WHERE path = ?', gone)
            db.executemany(WRITE_FILE, map(file_row, files.items()))
            db.executemany(
                'INSERT INTO entries VALUES (?, ?, ?, ?)',
                (entry_row(row, entry) for row, entry in enumerate(entries, start=rows)),
            )
            set_value(db, 'rows', rows + len(entries))
            set_value(db, 'live', live)
        # Right as they were before; to count a large index at each batch would take long.
        self._counted = replace(values, rows=rows + len(entries), live=live)

    def restamp(self, files: Mapping[str, FileState]) -> None:
        """Writes new times of files whose content is as it was; their entries stay."""
        with self._database.writing() as db:
            db.executemany(WRITE_FILE, map(file_row, files.items()))

    def identify(self, identities: Mapping[str, str]) -> None:
        """Writes who is in some files, by path."""
        with self._database.writing() as db:
            db.executemany(
                'UPDATE entries SET identity = ? WHERE path = ? AND identity IS NOT ?',
                ((who, os.fsencode(path), who) for path, who in identities.items()),
            )

    def counts(self) -> dict[str, int]:
        """Number of entries of each file that has some, by its path."""
        if not self._database.is_made():
            return {}
        with self._reading() as (db, _):
            rows = db.execute('SELECT path, count(*) FROM entries GROUP BY path')
            return {self._database.checked(read_path, path): count for path, count in rows}

    def recipes(self) -> dict[str, str]:
        """What the marks of files say of how they were read, as far as it is known."""
        if not self._database.is_made():
            return {}
        with self._reading() as (_, values):
            return dict(values.recipes)

    def note_recipe(self, mark: str, recipe: str) -> None:
        """Writes what a mark says."""
        with self._database.writing() as db:
            set_value(db, RECIPE + mark, recipe)

    def details(self) -> dict[str, str]:
        """What else there is to know, for people to read, by what it is."""
        with self._reading() as (_, values):
            lists = values.lists and self.folder / values.lists
            return {
                'database': _size(self.folder / DATABASE),
                'vectors': f'{_size(self.folder / values.vectors)}, {values.dtype}',
                'approximate search': f'prepared for {values.listed} of {values.rows} vectors, '
                f'{_size(lists)}'
                if lists
                else 'not prepared',
            }

    def compact(self) -> None:
        """Frees the room of removed entries if they are the larger part."""
        with self._reading() as (db, values):
            if 2 * values.live >= values.rows:
                return
            live = self._live_rows(db, values)
        generation = values.generation + 1
        name = vectors_name(generation)
        copy_vectors(
            self.folder / values.vectors, self.folder / name, live, self.model.dim, values.dtype
        )
        with self._database.writing() as db:
            # Ascending, so that the new number of a row is never that of a later one.
            pairs = ((new, int(old)) for new, old in enumerate(live))
            db.executemany('UPDATE entries SET row = ? WHERE row = ?', pairs)
            set_value(db, 'rows', len(live))
            set_value(db, 'generation', generation)
            set_value(db, 'vectors', name)
            db.execute("DELETE FROM meta WHERE key = 'lists'")
        with self._reading() as (_, values):
            remove_leftovers(self.folder, _data_files(values))

    def build_approximate(self, kind: str = 'ivf') -> None:
        """Groups the vectors indexed now, so that a search looks at the nearest groups only.

        What is indexed later is searched exactly beside them until this is called again.

        Args:
            kind: 'ivf', the only one of a folder.

        Raises:
            ValueError: If there are too few entries to group, or the kind is another.
        """
        if kind != 'ivf':
            raise ValueError(
                f"approximate search in a folder is 'ivf' alone, got {kind!r}: 'hnsw' takes Milvus"
            )
        with self._reading() as (_, values):
            vectors = self._open_vectors(values)
        name = lists_name(values.generation, values.rows)
        build_lists(vectors, self.folder / name)
        with self._database.writing() as db:
            set_value(db, 'lists', name)
        with self._reading() as (_, values):
            remove_leftovers(self.folder, _data_files(values))

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
            approximate: Whether to look at the nearest groups only.

        Raises:
            FileNotFoundError: If there is no such index.
            ValueError: If the index was made with another model or is damaged, or an approximate
                search was not prepared.
        """
        # Rows and entries belong together only within one transaction.
        with self._reading() as (db, values):
            listed = self._listed(values) if approximate else 0
            rows = values.rows
            vectors = self._open_vectors(values)
            count, allowed = values.live, None
            if within is not None or count < rows:
                allowed = self._live_rows(db, values, within)
                count = len(allowed)
            k = min(k, count)
            if k == 0:
                return [[] for _ in queries]
            if approximate:
                lists = self._open_lists(values, listed)
                scores, found = search_lists(lists, vectors, queries, k, allowed)
            else:
                chosen = np.arange(rows) if allowed is None else allowed
                scores, found = search_exactly(vectors, queries, k, chosen)
            # An approximate search may find fewer; the row is then -1. What is not a number is
            # never among the best.
            if not (np.isfinite(scores) | (approximate & (found < 0))).all():
                raise damaged(self.folder, f'{values.vectors} holds values that are not finite')
            best = vectors[np.unique(found[found >= 0])].astype(np.float32)
            if are_too_long(best):
                raise damaged(self.folder, f'{values.vectors} holds vectors longer than 1')
            query = 'SELECT path, identity, place FROM entries WHERE row = ?'
            entries = {
                row: self._database.checked(read_entry, db.execute(query, (row,)).fetchone())
                for row in np.unique(found).tolist()
                if row >= 0
            }
        return [
            [(entries[row], score) for score, row in zip(*pair, strict=True) if row >= 0]
            for pair in zip(scores.tolist(), found.tolist(), strict=True)
        ]

    def items(self, paths: Collection[str] | None = None) -> Iterator[tuple[Entry, np.ndarray]]:
        """Entries, all or those of some files, each with its vector (D,) float32."""
        query = 'SELECT row, path, identity, place FROM entries'
        with self._reading() as (db, values):
            array = self._open_vectors(values)
            if paths is None:
                found = db.execute(f'{query} ORDER BY path, row').fetchall()
            else:
                found = [
                    row
                    for path in paths
                    for row in db.execute(f'{query} WHERE path = ?', (os.fsencode(path),))
                ]
        self._check_rows([row for row, *_ in found], values)
        for row, *columns in found:
            yield self._database.checked(read_entry, columns), array[row].astype(np.float32)

    def __len__(self) -> int:
        """Number of entries."""
        if not self._database.is_made():
            return 0
        with self._reading() as (_, values):
            return values.live

    def _make(self) -> None:
        vectors = vectors_name(0)
        values = dict(
            format=FORMAT,
            model=self.model.name,
            fingerprint=self.model.fingerprint,
            dim=self.model.dim,
            dtype='float16' if self._half else 'float32',
            rows=0,
            live=0,
            generation=0,
            vectors=vectors,
        )
        create_vector_file(self.folder / vectors)
        self._database.make(values)

    def _check_counts(self, db: sqlite3.Connection, values: IndexValues) -> None:
        if values == self._counted:
            return
        [count] = db.execute('SELECT count(*) FROM entries').fetchone()
        [first] = db.execute('SELECT min(row) FROM entries').fetchone()
        [last] = db.execute('SELECT max(row) FROM entries').fetchone()
        if count != values.live:
            raise damaged(self.folder, f'it counts {values.live} entries and has {count}')
        if count and not 0 <= first <= last < values.rows:
            raise damaged(self.folder, f'entries {first} to {last} of {values.rows} vectors')
        path = self.folder / values.vectors
        check_vector_file(path, rows=values.rows, dim=values.model.dim, dtype=values.dtype)
        self._counted = values

    def _live_rows(
        self, db: sqlite3.Connection, values: IndexValues, within: str | None = None
    ) -> np.ndarray:
        rows = live_rows(db, within)
        self._check_rows(rows, values)
        return rows

    def _check_rows(self, rows: Sequence[int] | np.ndarray, values: IndexValues) -> None:
        # In a damaged tree the smallest and the largest number are not where SQLite looks for them.
        if len(rows) and not 0 <= np.min(rows) <= np.max(rows) < values.rows:
            raise damaged(self.folder, f'it has entries of other vectors than {values.rows}')

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, IndexValues]]:
        """A read transaction and the index's own values, checked, of the model alone."""
        with self._database.reading() as (db, values):
            self._check(db, values)
            yield db, values

    def _check(self, db: sqlite3.Connection, values: IndexValues) -> None:
        if values.model.fingerprint != self.model.fingerprint:
            raise wrong_model(str(self.folder), str(values.model), self.model)
        if values.model.dim != self.model.dim:
            raise damaged(self.folder, f"'dim' is {values.model.dim}, not {self.model.dim}")
        self._check_counts(db, values)

    def _open_vectors(self, values: IndexValues) -> np.ndarray:
        path, rows = self.folder / values.vectors, values.rows
        if self._vectors is None or self._vectors[0] != (path, rows):
            array = map_vectors(path, rows=rows, dim=self.model.dim, dtype=values.dtype)
            self._vectors = (path, rows), array
        return self._vectors[1]

    def _listed(self, values: IndexValues) -> int:
        """How many vectors are in groups for approximate search."""
        if values.listed is None:
            raise ValueError(
                f'index {self.folder} is not prepared for approximate search: call '
                'build_approximate() or sen-search index --approximate'
            )
        return values.listed

    def _open_lists(self, values: IndexValues, listed: int) -> faiss.Index:
        path = self.folder / lists_name(values.generation, listed)
        if self._lists is None or self._lists[0] != path:
            self._lists = path, open_lists(path, rows=listed, dim=self.model.dim)
        return self._lists[1]


def _data_files(values: IndexValues) -> list[str]:
    return [values.vectors] if values.lists is None else [values.vectors, values.lists]


def _size(path: Path) -> str:
    size = path.stat().st_size if path.is_file() else 0
    return f'{size / 1e6:.2f} MB'
