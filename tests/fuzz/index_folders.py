"""Index folders from elsewhere: values, rows, bytes and whole files of theirs changed."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
from test_foreign_index import LISTS, ROWS, SCHEMAS, VALUES, change, set_value

from sen_toolbox.search.contents import folder_contents
from sen_toolbox.search.index import Entry, FileState, GalleryIndex, ModelId, open_index
from sen_toolbox.search.removal import remove_sources

from .mutations import mangled
from .outcome import attempt, require

# What changes a folder, and what is then done with it.
Sample = tuple[Callable[[Path], None], list[Callable[[GalleryIndex], object]]]
MODEL = ModelId('m', 'f', 32)
ROWS_HELD, REMOVED = 1100, 30
VALUE_CHANGES = [
    '', '0', '-1', '1', '5', '1100', '9' * 19, '9' * 40, '../victim.txt', 'vectors.1', 'lists.0.1',
    'lists.0.1100', 'float16', 'object', 'nan', '\x00', '\u0663', None, b'\xff', 7, 1.5, '{}', '[]',
    '{"crop": "../a.jpg"}', '{"box": [1]}', '{"time": 1e999}', '{"frame": "x"}', 'a\nb', '[' * 9999,
]  # fmt: skip
META = ['format', 'model', 'fingerprint', 'dim', 'dtype', 'rows', 'live', 'generation', 'vectors',
        'lists', 'recipe x']  # fmt: skip
COLUMNS = dict(
    entries=['row', 'path', 'identity', 'place'],
    files=['path', 'size', 'mtime_ns', 'digest', 'problem'],
)
FILES = ['index.sqlite'] * 3 + ['lists.0.1100'] * 2 + ['vectors.0']
ODD_FILES = ['index.sqlite', 'index.sqlite-journal', 'index.sqlite-wal', 'index.sqlite-shm',
             'lists.0.1100', 'vectors.0', 'vectors.1', 'lock', 'crops']  # fmt: skip


class IndexFolders:
    addresses = ()

    def __init__(self, samples: Path) -> None:
        self.samples = samples
        vectors = np.random.default_rng(0).standard_normal((ROWS_HELD, MODEL.dim))
        self._vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype('f')
        self._paths = [f'/g/{number % 7}/{number}.jpg' for number in range(ROWS_HELD)]
        index = open_index(samples / 'index', MODEL)
        place = dict(box=[1, 2, 3, 4], time=1.5, frame=3, crop='ab/0123456789abcdef.jpg')
        with index.writing():
            files = dict.fromkeys(self._paths, FileState(1, 1, 'x'))
            index.write(files, [Entry(p, '7', place) for p in self._paths], self._vectors)
            index.build_approximate()
            index.write({}, [], self._vectors[:0], removed=self._paths[:REMOVED])
        self._found = self._searched(index)
        hostile = {
            **{name: self._setting(*given) for name, given in VALUES.items()},
            **{name: self._stating(text) for name, text in {**SCHEMAS, **ROWS}.items()},
            **{name: self._lists(write) for name, write in LISTS.items()},
        }
        self.hostile = {name: (damage, self._uses()) for name, damage in hostile.items()}

    def _setting(self, key: str, value: object) -> Callable[[Path], None]:
        return lambda folder: set_value(folder, key, value)

    def _stating(self, statement: str) -> Callable[[Path], None]:
        return lambda folder: change(folder, statement)

    def _lists(self, write: Callable[[Path, Path], None]) -> Callable[[Path], None]:
        groups = self.samples / 'index' / 'lists.0.1100'
        return lambda folder: write(folder / 'lists.0.1100', groups)

    def mutant(self, rng: random.Random) -> Sample:
        """One or two changes of a folder, and two uses of it."""
        kinds = [rng.choice([self._value, self._row, self._bytes, self._bytes, self._file])
                 for _ in range(rng.choice([1, 1, 2]))]  # fmt: skip
        seed = rng.random()
        uses = rng.sample(self._uses(), 2)

        def damage(folder: Path) -> None:
            again = random.Random(seed)
            for kind in kinds:
                # SQLite would wait for a FIFO here, too.
                if not all(path.is_file() and not path.is_symlink() for path in folder.iterdir()):
                    return
                try:
                    kind(again, folder)
                # What one change has broken the next one cannot change.
                except (OSError, sqlite3.Error):
                    pass

        return damage, uses

    def _value(self, rng: random.Random, folder: Path) -> None:
        set_value(folder, rng.choice(META), rng.choice(VALUE_CHANGES))

    def _row(self, rng: random.Random, folder: Path) -> None:
        table = rng.choice(list(COLUMNS))
        column, value = rng.choice(COLUMNS[table]), rng.choice(VALUE_CHANGES)
        chosen = 'row' if table == 'entries' else 'path'
        which = f'(SELECT {chosen} FROM {table} LIMIT 1 OFFSET {rng.randrange(1000)})'
        change(folder, (f'UPDATE {table} SET {column} = ? WHERE {chosen} = {which}', (value,)))

    def _bytes(self, rng: random.Random, folder: Path) -> None:
        path = folder / rng.choice(FILES)
        if path.is_file() and not path.is_symlink():
            path.write_bytes(mangled(rng, path.read_bytes()))

    def _file(self, rng: random.Random, folder: Path) -> None:
        path = folder / rng.choice(ODD_FILES)
        path.unlink(missing_ok=True)
        kind = rng.randrange(6)
        if kind == 0:
            path.symlink_to(Path('victim.txt').absolute())
        elif kind == 1:
            path.symlink_to(Path('evil').absolute())
        elif kind == 2:
            path.mkdir()
        elif kind == 3:
            os.mkfifo(path)
        elif kind == 4:
            path.write_bytes(rng.randbytes(5000))

    def check(self, sample: Sample, folder: Path) -> bool:
        damage, uses = sample
        index = folder / 'index'
        lines = []
        for use in uses:
            shutil.rmtree(index, ignore_errors=True)
            shutil.copytree(self.samples / 'index', index)
            damage(index)
            lines.append(attempt(lambda use=use: use(open_index(index, MODEL)), [str(index)])[1])
            lines.append(attempt(lambda: open_index(index), [str(index)])[1])
        return any(lines)

    def _uses(self) -> list[Callable[[GalleryIndex], object]]:
        return [
            self._search,
            lambda index: index.search(self._vectors[:3], 5, approximate=True),
            lambda index: index.search(self._vectors[:3], 5, within='/g/3'),
            lambda index: [list(index.items()), index.files(), len(index), index.counts()],
            lambda index: [folder_contents(index), index.details(), index.recipes()],
            self._remove,
            self._write,
        ]

    def _searched(self, index: GalleryIndex) -> list:
        found = index.search(self._vectors[:3], 5)
        return [[(entry.path, score) for entry, score in hits] for hits in found]

    def _search(self, index: GalleryIndex) -> None:
        for hits in index.search(self._vectors[:3], 5):
            # Of unit vectors.
            require(all(abs(score) < 1.01 for _, score in hits), f'scores {[s for _, s in hits]}')

    def _remove(self, index: GalleryIndex) -> None:
        if any(path.startswith('/g/3/') for path in index.files()):
            remove_sources(index, index.folder / 'crops', '/g/3')

    def _write(self, index: GalleryIndex) -> None:
        before = set(index.files())
        with index.writing():
            index.write({'/new.jpg': FileState(1, 1, 'y')}, [Entry('/new.jpg')], self._vectors[:1])
            require(set(index.files()) == before | {'/new.jpg'}, 'entries are lost by writing one')
            index.write({}, [], self._vectors[:0], removed=self._paths[:700])
            index.compact()
        [held] = index.items(['/new.jpg'])
        require(np.allclose(held[1], self._vectors[0], atol=1e-3), 'a new vector is another one')
