"""The database of an index: its entries, files and values in SQLite.

It may come from elsewhere, so nothing of it is used before it was compared with what this toolbox
writes.
"""

import functools
import json
import os
import sqlite3
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sen_toolbox.messages import one_line, printable
from sen_toolbox.search.index import Entry, FileState, checked_entry
from sen_toolbox.search.index_folder import DATABASE, check_files
from sen_toolbox.search.index_values import FORMAT, IndexValues, damaged, read_values

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


class IndexDatabase:
    """The database in the folder of an index.

    Args:
        folder: The folder; need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept = threading.local()

    def is_made(self) -> bool:
        """Whether there is one with its tables.

        Raises:
            OSError: If it cannot be used now.
            ValueError: If it is damaged, of something else, or a link.
        """
        check_files(self._folder)
        if not (self._folder / DATABASE).is_file():
            return False
        with self._connected() as db:
            return self._has_tables(db)

    def make(self, values: Mapping[str, object]) -> None:
        """Makes the tables and writes what the index says of itself."""
        with self.writing() as db:
            _make_tables(db)
            for key, value in values.items():
                set_value(db, key, value)

    @contextmanager
    def reading(self) -> Iterator[tuple[sqlite3.Connection, IndexValues]]:
        """A read transaction and the index's own values, checked.

        Raises:
            FileNotFoundError: If there is no index.
            OSError: If it cannot be used now.
            ValueError: If it is damaged, of something else or of another format.
        """
        check_files(self._folder)
        if not (self._folder / DATABASE).is_file():
            raise self._missing()
        with self._connected() as db:
            db.execute('BEGIN')
            yield db, self.values(db)
            db.execute('COMMIT')

    def values(self, db: sqlite3.Connection) -> IndexValues:
        """The index's own values within a transaction, checked.

        Raises:
            FileNotFoundError: If there are none.
            ValueError: If they are damaged or of another format.
        """
        if not self._has_tables(db):
            raise self._missing()
        if (found := _format(db)) not in (FORMAT, None):
            raise ValueError(
                f'index {self._folder} has format {printable(found[:40])}, this version reads '
                f'{FORMAT}: search it with the version that made it, or index into another folder'
            )
        meta = dict(db.execute("SELECT key, value FROM meta WHERE typeof(key) = 'text'"))
        return read_values(self._folder, meta)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction, of which nothing is left if it fails.

        Raises:
            OSError: If the database cannot be used now.
            ValueError: If it is damaged or a link.
        """
        check_files(self._folder)
        with self._explained(), self._writable() as db, db:
            db.execute('BEGIN IMMEDIATE')
            yield db

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Lets the write transactions of this thread within share one connection.

        To open one takes a fifth of what it takes to write a batch.
        """
        with self._writable() as self._kept.connection:
            try:
                yield
            finally:
                del self._kept.connection

    def checked(self, read: Callable[[Any], Any], columns: Any) -> Any:
        """What a function reads of some columns.

        Raises:
            ValueError: If it raises one; names the database.
        """
        try:
            return read(columns)
        except (ValueError, RecursionError) as error:
            raise damaged(self._folder, textwrap.shorten(str(error), 300)) from error

    @contextmanager
    def _writable(self) -> Iterator[sqlite3.Connection]:
        if hasattr(self._kept, 'connection'):
            yield self._kept.connection
            return
        with self._connected() as db:
            db.execute('PRAGMA synchronous = FULL')
            yield db

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        path = self._folder / DATABASE
        with (
            self._explained(),
            closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as db,
        ):
            # A database from elsewhere may be made to mislead whoever reads it.
            db.execute('PRAGMA trusted_schema = OFF')
            db.execute('PRAGMA cell_size_check = ON')
            yield db

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What SQLite says of this database, as an error that names it."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if str(error).startswith('Could not decode'):
                raise damaged(self._folder, 'it holds text that is not UTF-8') from error
            if isinstance(error, sqlite3.OperationalError):
                raise OSError(
                    f'index {self._folder} cannot be used now: {one_line(error)}'
                ) from error
            raise damaged(self._folder, str(error)) from error

    def _missing(self) -> FileNotFoundError:
        return FileNotFoundError(
            f'there is no index {self._folder}: make it with sen-search index FOLDER'
        )

    def _has_tables(self, db: sqlite3.Connection) -> bool:
        """Whether the tables are there; none are after a crash between the file and its tables."""
        found = _schema(db)
        # A later format may have other tables.
        if found and found != _expected_schema() and _format(db) in (FORMAT, None):
            raise damaged(self._folder, 'it has other tables')
        return bool(found)


def set_value(db: sqlite3.Connection, key: str, value: object) -> None:
    """Writes what an index says of itself."""
    db.execute('INSERT OR REPLACE INTO meta VALUES (?, ?)', (key, str(value)))


def file_row(item: tuple[str, FileState]) -> tuple:
    """The columns of a file."""
    path, state = item
    return os.fsencode(path), state.size, state.mtime_ns, state.digest, state.problem


def entry_row(row: int, entry: Entry) -> tuple:
    """The columns of an entry."""
    return row, os.fsencode(entry.path), entry.identity, json.dumps(dict(entry.place))


def read_path(value: object) -> str:
    """The path in a column.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(value, bytes):
        raise ValueError(f'the path of a file is {value!r}')
    return os.fsdecode(value)


def read_file(columns: Sequence) -> tuple[str, FileState]:
    """Path and state of a file.

    Raises:
        ValueError: If a column holds something else.
    """
    path, *values = columns
    kinds = (int, int, str, str | None)
    if not all(map(isinstance, values, kinds)):
        raise ValueError(f'{path!r} has the state {values!r}')
    return checked_entry(read_path(path), None, {}).path, FileState(*values)


def read_entry(columns: Sequence | None) -> Entry:
    """An entry of its path, identity and place.

    Args:
        columns: None if there is none where one should be.

    Raises:
        ValueError: If a column holds something else.
        RecursionError: If the place is too deep.
    """
    if columns is None:
        raise ValueError('a vector has no entry')
    path, identity, place = columns
    if not isinstance(place, str):
        raise ValueError(f'{path!r} has the place {place!r}')
    return checked_entry(read_path(path), identity, json.loads(place, parse_constant=_no_number))


def live_rows(db: sqlite3.Connection, within: str | None = None) -> np.ndarray:
    """Rows of all entries, or of those below a folder, ascending."""
    if within is None:
        found = db.execute('SELECT row FROM entries')
    else:
        # The separator's successor ends the names that begin with the folder.
        first = os.path.join(os.fsencode(within), b'')
        last = first[:-1] + bytes([first[-1] + 1])
        found = db.execute('SELECT row FROM entries WHERE path > ? AND path < ?', (first, last))
    return np.sort(np.fromiter((row for (row,) in found), dtype=np.int64))


def _no_number(name: str) -> None:
    raise ValueError(f'a place holds {name}')


def _format(db: sqlite3.Connection) -> str | None:
    """The format, if there is a plain table that says it."""
    tables = {name: str(sql) for kind, name, _, sql in _schema(db) if kind == 'table'}
    if not tables.get('meta', '').startswith('CREATE TABLE'):
        return None
    try:
        found = db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    except sqlite3.OperationalError:
        return None
    return str(found[0]) if found else None


def _make_tables(db: sqlite3.Connection) -> None:
    for statement in TABLES.split(';'):
        db.execute(statement)


def _schema(db: sqlite3.Connection) -> list[tuple]:
    """Kind, name, table and statement of all that a database consists of."""
    return db.execute(
        'SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name'
    ).fetchall()


@functools.cache
def _expected_schema() -> list[tuple]:
    with closing(sqlite3.connect(':memory:')) as db:
        _make_tables(db)
        return _schema(db)
