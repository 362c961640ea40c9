"""A gallery in a folder: entries in SQLite, vectors in one file that is searched in place.

Vectors are only ever appended, and forced to disk before the SQLite transaction that counts them;
what a crash leaves beyond the count is overwritten by the next writer. A committed row therefore
never changes, and SQLite rolls back the transaction that a crash cut off.
"""

import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import faiss
import numpy as np
from filelock import FileLock, Timeout

from sen_toolbox.search.approximate_search import build_lists, open_lists, search_lists
from sen_toolbox.search.exact_search import search_exactly
from sen_toolbox.search.index import Entry, FileState, ModelId, check_vectors, wrong_model
from sen_toolbox.search.vector_file import (
    append_vectors,
    copy_vectors,
    create_vector_file,
    map_vectors,
)

FORMAT = '2'
DATABASE = 'index.sqlite'
LOCK = 'lock'
# Seconds that SQLite waits for another process to finish a transaction.
PATIENCE = 60
TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE files (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest TEXT, problem TEXT
) WITHOUT ROWID;
CREATE TABLE entries (row INTEGER PRIMARY KEY, path BLOB NOT NULL, identity TEXT, place TEXT);
CREATE INDEX entries_by_path ON entries (path);
"""


class LocalIndex:
    """A :class:`~sen_toolbox.search.index.GalleryIndex` in a folder.

    Args:
        folder: The folder; made at the first writing.
        model: What makes the vectors.
        half: Whether a new index stores float16: half the disk and time, scores exact to about
            1e-4. An old index stays what it is.
    """

    def __init__(self, folder: str | os.PathLike, *, model: ModelId, half: bool = False) -> None:
        self.folder = Path(folder)
        self.model = model
        self._half = half
        self._vectors: tuple[tuple[Path, int], np.ndarray] | None = None
        self._lists: tuple[Path, faiss.Index] | None = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keeps other writers out; makes the index if there is none.

        Raises:
            BlockingIOError: If another process is writing.
            ValueError: If the index was made with another model.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
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
            if not self._is_made():
                self._make()
            with self._reading() as (_, meta):
                self._remove_leftovers(meta)
            yield
        finally:
            lock.release()

    def files(self) -> dict[str, FileState]:
        """Every file that was indexed, by its path, with those that failed."""
        if not self._is_made():
            return {}
        with self._reading() as (db, _):
            rows = db.execute('SELECT path, size, mtime_ns, digest, problem FROM files')
            return {os.fsdecode(path): FileState(*state) for path, *state in rows}

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
        with self._reading() as (_, meta):
            rows = int(meta['rows'])
        if len(vectors):
            append_vectors(self.folder / meta['vectors'], vectors, rows, meta['dtype'])
        with self._transaction() as db:
            gone = [(os.fsencode(path),) for path in (*removed, *files)]
            before = db.total_changes
            db.executemany('DELETE FROM entries WHERE path = ?', gone)
            live = int(meta['live']) + len(entries) - (db.total_changes - before)
            db.executemany('DELETE FROM files WHERE path = ?', gone)
            db.executemany(
                'INSERT INTO files VALUES (?, ?, ?, ?, ?)', map(_file_row, files.items())
            )
            db.executemany(
                'INSERT INTO entries VALUES (?, ?, ?, ?)',
                (
                    (row, os.fsencode(e.path), e.identity, json.dumps(dict(e.place)))
                    for row, e in enumerate(entries, start=rows)
                ),
            )
            _set(db, 'rows', rows + len(entries))
            _set(db, 'live', live)

    def restamp(self, files: Mapping[str, FileState]) -> None:
        """Writes new times of files whose content is as it was; their entries stay."""
        with self._transaction() as db:
            db.executemany(
                'INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)', map(_file_row, files.items())
            )

    def identify(self, identities: Mapping[str, str]) -> None:
        """Writes who is in some files, by path."""
        with self._transaction() as db:
            db.executemany(
                'UPDATE entries SET identity = ? WHERE path = ? AND identity IS NOT ?',
                ((who, os.fsencode(path), who) for path, who in identities.items()),
            )

    def compact(self) -> None:
        """Frees the room of removed entries if they are the larger part."""
        with self._reading() as (db, meta):
            if 2 * int(meta['live']) >= int(meta['rows']):
                return
            live = _live_rows(db)
        generation = int(meta['generation']) + 1
        name = f'vectors.{generation}'
        copy_vectors(
            self.folder / meta['vectors'], self.folder / name, live, self.model.dim, meta['dtype']
        )
        with self._transaction() as db:
            # Ascending, so that the new number of a row is never that of a later one.
            pairs = ((new, int(old)) for new, old in enumerate(live))
            db.executemany('UPDATE entries SET row = ? WHERE row = ?', pairs)
            _set(db, 'rows', len(live))
            _set(db, 'generation', generation)
            _set(db, 'vectors', name)
            db.execute("DELETE FROM meta WHERE key = 'lists'")
        with self._reading() as (_, meta):
            self._remove_leftovers(meta)

    def build_approximate(self) -> None:
        """Groups the vectors indexed now, so that a search looks at the nearest groups only.

        What is indexed later is searched exactly beside them until this is called again.

        Raises:
            ValueError: If there are too few entries to group.
        """
        with self._reading() as (_, meta):
            rows = int(meta['rows'])
            vectors = self._open_vectors(meta)
        name = f'lists.{meta["generation"]}.{rows}'
        build_lists(vectors, self.folder / name)
        with self._transaction() as db:
            _set(db, 'lists', name)
        with self._reading() as (_, meta):
            self._remove_leftovers(meta)

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
        with self._reading() as (db, meta):
            if approximate and 'lists' not in meta:
                raise ValueError(
                    f'index {self.folder} is not prepared for approximate search: call '
                    'build_approximate() or sen-search index --approximate'
                )
            rows = int(meta['rows'])
            vectors = self._open_vectors(meta)
            count, allowed = int(meta['live']), None
            if within is not None or count < rows:
                allowed = _live_rows(db, within)
                count = len(allowed)
            k = min(k, count)
            if k == 0:
                return [[] for _ in queries]
            if approximate:
                lists = self._open_lists(self.folder / meta['lists'])
                scores, found = search_lists(lists, vectors, queries, k, allowed)
            else:
                chosen = np.arange(rows) if allowed is None else allowed
                scores, found = search_exactly(vectors, queries, k, chosen)
            # An approximate search may find fewer; the row is then -1.
            query = 'SELECT path, identity, place FROM entries WHERE row = ?'
            entries = {
                row: _entry(db.execute(query, (row,)).fetchone())
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
        with self._reading() as (db, meta):
            array = self._open_vectors(meta)
            if paths is None:
                found = db.execute(f'{query} ORDER BY path, row').fetchall()
            else:
                found = [
                    row
                    for path in paths
                    for row in db.execute(f'{query} WHERE path = ?', (os.fsencode(path),))
                ]
        for row, *values in found:
            yield _entry(values), array[row].astype(np.float32)

    def __len__(self) -> int:
        """Number of entries."""
        if not self._is_made():
            return 0
        with self._reading() as (_, meta):
            return int(meta['live'])

    def _is_made(self) -> bool:
        if not (self.folder / DATABASE).is_file():
            return False
        with closing(self._connect()) as db, self._explained():
            return _has_tables(db)

    def _make(self) -> None:
        values = dict(
            format=FORMAT,
            model=self.model.name,
            fingerprint=self.model.fingerprint,
            dim=self.model.dim,
            dtype='float16' if self._half else 'float32',
            rows=0,
            live=0,
            generation=0,
            vectors='vectors.0',
        )
        create_vector_file(self.folder / values['vectors'])
        with self._transaction() as db:
            for statement in TABLES.split(';'):
                db.execute(statement)
            for key, value in values.items():
                _set(db, key, value)

    def _connect(self) -> sqlite3.Connection:
        path = self.folder / DATABASE
        return sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise OSError(f'index {self.folder} cannot be used now: {error}') from error
            raise ValueError(
                f'{self.folder / DATABASE} is damaged or no index ({error}): delete {self.folder} '
                'and index again'
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, dict[str, str]]]:
        """A read transaction and the index's own values, checked."""
        missing = FileNotFoundError(
            f'there is no index {self.folder}: make it with sen-search index FOLDER'
        )
        if not (self.folder / DATABASE).is_file():
            raise missing
        with closing(self._connect()) as db, self._explained():
            db.execute('BEGIN')
            # A crash may have come between the file and its tables.
            if not _has_tables(db):
                raise missing
            meta = dict(db.execute('SELECT key, value FROM meta'))
            if meta['format'] != FORMAT:
                raise ValueError(
                    f'index {self.folder} has format {meta["format"]}, this version reads '
                    f'{FORMAT}: search it with the version that made it, or delete the folder '
                    'and index again'
                )
            if meta['fingerprint'] != self.model.fingerprint:
                made_with = ModelId(meta['model'], meta['fingerprint'], int(meta['dim']))
                raise wrong_model(str(self.folder), str(made_with), self.model)
            yield db, meta
            db.execute('COMMIT')

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction; closing the connection rolls back what failed."""
        with closing(self._connect()) as db, self._explained():
            db.execute('PRAGMA synchronous = FULL')
            db.execute('BEGIN IMMEDIATE')
            yield db
            db.execute('COMMIT')

    def _open_vectors(self, meta: Mapping[str, str]) -> np.ndarray:
        path, rows = self.folder / meta['vectors'], int(meta['rows'])
        if self._vectors is None or self._vectors[0] != (path, rows):
            array = map_vectors(path, rows=rows, dim=self.model.dim, dtype=meta['dtype'])
            self._vectors = (path, rows), array
        return self._vectors[1]

    def _open_lists(self, path: Path) -> faiss.Index:
        if self._lists is None or self._lists[0] != path:
            self._lists = path, open_lists(path)
        return self._lists[1]

    def _remove_leftovers(self, meta: Mapping[str, str]) -> None:
        """Deletes files that a crash or a compaction left behind."""
        for path in self.folder.iterdir():
            is_data = path.name.startswith(('vectors.', 'lists.'))
            if is_data and path.name not in (meta['vectors'], meta.get('lists')):
                with suppress(PermissionError):
                    path.unlink()


def _has_tables(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone())


def _set(db: sqlite3.Connection, key: str, value: object) -> None:
    db.execute('INSERT OR REPLACE INTO meta VALUES (?, ?)', (key, str(value)))


def _file_row(item: tuple[str, FileState]) -> tuple:
    path, state = item
    return os.fsencode(path), state.size, state.mtime_ns, state.digest, state.problem


def _live_rows(db: sqlite3.Connection, within: str | None = None) -> np.ndarray:
    """Rows of all entries, or of those below a folder, ascending."""
    if within is None:
        found = db.execute('SELECT row FROM entries')
    else:
        # The separator's successor ends the names that begin with the folder.
        first = os.path.join(os.fsencode(within), b'')
        last = first[:-1] + bytes([first[-1] + 1])
        found = db.execute('SELECT row FROM entries WHERE path > ? AND path < ?', (first, last))
    return np.sort(np.fromiter((row for (row,) in found), dtype=np.int64))


def _entry(values: Sequence) -> Entry:
    path, identity, place = values
    return Entry(os.fsdecode(path), identity, json.loads(place))
