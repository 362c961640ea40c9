"""The gallery on a real Milvus server, which the tests start, kill and stop."""

import importlib.util
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_search_index import ROOT, ColourEncoder, draw, expected

from sen_toolbox.search.index import Entry, FileState, ModelId, open_index
from sen_toolbox.search.indexing import update_index
from sen_toolbox.search.milvus_client import check_version
from sen_toolbox.search.shard import Shard

_spec = importlib.util.spec_from_file_location('server', ROOT / 'benchmarks/milvus_server.py')
milvus_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(milvus_server)
MODEL = ColourEncoder.model_id
# Tells before each write and after each batch, and begins at a word.
CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from test_search_index import ColourEncoder
from sen_toolbox.search.index import open_index
from sen_toolbox.search.indexing import update_index
index = open_index(sys.argv[3], ColourEncoder.model_id, uri=sys.argv[4])
upsert = index._client.upsert
def told(*values):
    print('writes', flush=True)
    return upsert(*values)
index._client.upsert = told
print('ready', flush=True)
sys.stdin.readline()
update_index(index, ColourEncoder(), sys.argv[2], batch_size=4,
             progress=lambda done, total: print(done, flush=True))
"""


class Writer:
    """A process that indexes a gallery on a server, as far as it is let."""

    def __init__(self, server, gallery, collection):
        command = [sys.executable, '-c', CHILD, ROOT / 'tests', gallery, collection, server.uri]
        self._process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self, *others):
        """Begins, and others with it, when all of them can."""
        together = (self, *others)
        for writer in together:
            assert writer.line() == 'ready', writer._process.communicate()[1]
        for writer in together:
            writer._process.stdin.write('\n')
            writer._process.stdin.flush()

    def line(self):
        return self._process.stdout.readline().strip()

    def lines(self):
        """What it says up to its end; it has nothing to say in other ways."""
        said, errors = self._process.communicate()
        assert (self._process.returncode, errors) == (0, '')
        return said.split()

    def kill(self):
        self._process.kill()
        return self._process.communicate()[0].split()


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    pytest.importorskip('pymilvus', reason='the extra milvus is not installed')
    pytest.importorskip('milvus', reason='the server has no wheel for this machine')
    server = milvus_server.Server(tmp_path_factory.mktemp('milvus'))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def gallery(tmp_path):
    rng = random.Random(0)
    for camera in ('camera 1', 'camera 11'):
        (tmp_path / 'gallery' / camera).mkdir(parents=True)
        for number in range(6):
            draw(tmp_path / 'gallery' / camera / f'{number}.png', rng)
    return tmp_path / 'gallery'


def contents(index):
    return {(e.path, e.identity): vector.tobytes() for e, vector in index.items()}


@pytest.mark.slow
def test_a_server_holds_and_finds_what_a_folder_does(server, gallery, tmp_path, monkeypatch):
    both = [
        open_index('people', MODEL, uri=server.uri),
        open_index(tmp_path / 'index', MODEL),
    ]
    paths = sorted(map(str, gallery.glob('*/*.png')))
    query = expected(paths[0])[None]
    seen = []
    for index in both:
        update_index(index, ColourEncoder(), gallery, identities={paths[0]: 'who'})
        index.write({}, [], np.empty((0, 96), np.float32), removed=[paths[1]])
        [hits] = index.search(query, 100)
        [near] = index.search(query, 100, within=str(gallery / 'camera 1'))
        seen.append((contents(index), len(index), *([e for e, _ in h] for h in (hits, near))))
    assert seen[0] == seen[1]
    assert len(seen[0][3]) == 5
    # Of another model's collection nothing is found, even if that is not yet known beforehand.
    other = open_index('people', ModelId('other', 'other', 96), uri=server.uri)
    monkeypatch.setattr(other, '_models', lambda **_: iter(()))
    with pytest.raises(ValueError, match="made with the model 'colours'"):
        other.search(query, 1)


@pytest.mark.slow
def test_a_killed_client_loses_nothing_that_it_reported(server, gallery):
    writer = Writer(server, gallery, 'killed')
    writer.begin()
    assert [writer.line(), writer.line()] == ['writes', '4']
    said = writer.kill()
    reported = max([4, *(int(line) for line in said if line.isdigit())])
    index = open_index('killed', MODEL, uri=server.uri)
    paths = sorted(map(str, gallery.glob('*/*.png')))
    assert set(paths[:reported]) <= set(index.files())
    report = update_index(index, ColourEncoder(), gallery)
    assert report.added <= len(paths) - reported
    assert contents(index) == {(path, None): expected(path).tobytes() for path in paths}


@pytest.mark.slow
def test_two_writers_at_once_leave_what_one_would(server, gallery):
    one, other = (Writer(server, gallery, 'two') for _ in range(2))
    one.begin(other)
    written = [int(writer.lines()[-1]) for writer in (one, other)]
    # The later one may find the first batches written.
    assert 12 in written
    assert sum(written) > 12
    index = open_index('two', MODEL, uri=server.uri)
    paths = list(map(str, gallery.glob('*/*.png')))
    assert len(index) == len(paths)
    assert contents(index) == {(path, None): expected(path).tobytes() for path in paths}


@pytest.mark.slow
def test_writers_of_parts_at_once_leave_what_one_would(server, gallery):
    def write(number):
        index = open_index('parts', MODEL, uri=server.uri)
        return update_index(index, ColourEncoder(), gallery, batch_size=4, shard=Shard(number, 3))

    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(write, (1, 2, 3)))
    paths = list(map(str, gallery.glob('*/*.png')))
    # Each does its own work and no more.
    assert sum(report.added for report in reports) == len(paths)
    index = open_index('parts', MODEL, uri=server.uri)
    assert contents(index) == {(path, None): expected(path).tobytes() for path in paths}


@pytest.mark.slow
def test_a_collection_whose_maker_ended_before_its_index_is_finished_by_the_next(
    server, gallery, monkeypatch
):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    maker = open_index('half', MODEL, uri=server.uri)
    monkeypatch.setattr(maker, '_index_vectors', die)
    with pytest.raises(Killed), maker.writing():
        pass
    index = open_index('half', MODEL, uri=server.uri)
    assert update_index(index, ColourEncoder(), gallery).added == 12
    assert len(index) == 12


@pytest.mark.slow
def test_a_server_prepares_approximate_search_and_still_searches_exactly(server):
    rng = np.random.default_rng(0)
    # In ten bunches of 300; Milvus makes no structure for fewer than 1024.
    vectors = np.repeat(rng.standard_normal((10, 96)), 300, axis=0)
    vectors = (vectors + 0.3 * rng.standard_normal(vectors.shape)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    paths = [f'/{row % 3}/{row:04d}' for row in range(3000)]
    index = open_index('approximate', MODEL, uri=server.uri)

    def write(rows):
        some = [paths[row] for row in rows]
        states = dict.fromkeys(some, FileState(1, 1, 'x'))
        index.write(states, list(map(Entry, some)), vectors[rows])

    gone = [5, 1500, 2950]
    with index.writing():
        write(range(2900))
        with pytest.raises(ValueError, match='is not prepared for approximate search'):
            index.search(vectors[:1], 1, approximate=True)
        index.build_approximate('hnsw')
        write(range(2900, 3000))
        index.write({}, [], vectors[:0], removed=[paths[row] for row in gone])
    queries, kept = vectors[::500], np.delete(np.arange(3000), gone)
    for kind in ('HNSW', 'IVF_FLAT'):
        assert index.details()['approximate search'] == f'prepared, {kind}'
        for inside, rows in ((None, kept), ('/1', kept[kept % 3 == 1])):
            scores = queries.astype(np.float64) @ vectors[rows].astype(np.float64).T
            best = [[paths[rows[i]] for i in line] for line in np.argsort(-scores)[:, :10]]
            exact = index.search(queries, 10, within=inside)
            assert [[entry.path for entry, _ in hits] for hits in exact] == best
            near = index.search(queries, 10, within=inside, approximate=True)
            near = [{entry.path for entry, _ in hits} for hits in near]
            shared = [len(some & set(line)) for some, line in zip(near, best, strict=True)]
            assert sum(shared) >= 0.9 * 60
            assert set.union(*near) <= {paths[row] for row in rows}
        # What was written behind it is among those to find.
        [[(entry, _)]] = index.search(vectors[2999:], 1, approximate=True)
        assert entry.path == paths[2999]
        if kind == 'HNSW':
            with index.writing():
                index.build_approximate('ivf')


@pytest.mark.slow
def test_a_server_killed_while_it_writes_loses_nothing_that_it_took(server, gallery, tmp_path):
    index = open_index('taken', MODEL, uri=server.uri)
    vectors = np.eye(20, 96, dtype=np.float32)
    files = {f'/{number}': FileState(1, 2, 'digest') for number in range(20)}
    with pytest.raises(InterruptedError), index.writing():
        index.write(files, [Entry(path) for path in files], vectors)
        # Nothing is flushed.
        raise InterruptedError
    writer = Writer(server, gallery, 'cut')
    writer.begin()
    assert [writer.line() for _ in range(3)] == ['writes', '4', 'writes']
    # The request is under way.
    time.sleep(0.005)
    server.kill()
    said = writer.kill()
    reported = max([4, *(int(line) for line in said if line.isdigit())])
    with pytest.raises(ConnectionError, match='fails .*; it keeps what it has taken'):
        index.files()
    server.start()

    index = open_index('taken', MODEL, uri=server.uri)
    assert index.files() == files
    assert {e.path: v.tobytes() for e, v in index.items()} == {
        path: vector.tobytes() for path, vector in zip(files, vectors, strict=True)
    }
    index, folder = open_index('cut', MODEL, uri=server.uri), open_index(tmp_path / 'index', MODEL)
    paths = sorted(map(str, gallery.glob('*/*.png')))
    assert set(paths[:reported]) <= set(index.files())
    # The run that goes on does the rest.
    report = update_index(index, ColourEncoder(), gallery, batch_size=4)
    assert report.added <= len(paths) - reported
    update_index(folder, ColourEncoder(), gallery, batch_size=4)
    assert index.files() == folder.files()
    assert contents(index) == contents(folder)


@pytest.mark.parametrize('version', ['v2.2.16', '1.1.0'])
def test_a_server_that_is_too_old_is_refused_by_name(version):
    with pytest.raises(ValueError, match=rf'http://old:1 is {version}, too old: start 2\.3'):
        check_version(version, 'http://old:1')


@pytest.mark.parametrize('version', ['v2.3.5-lite', 'v2.3.0', '2.10.1', 'a build of ours'])
def test_newer_servers_and_unnamed_builds_are_taken(version):
    check_version(version, 'http://new:1')
