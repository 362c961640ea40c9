"""The gallery on a real Milvus server, which the tests start, kill and stop."""

import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import numpy as np
import pytest
from test_search_index import ROOT, ColourEncoder, draw, expected

from sen_toolbox.search.index import Entry, FileState, open_index
from sen_toolbox.search.indexing import update_index
from sen_toolbox.search.milvus_index import _check_version
from sen_toolbox.search.shard import Shard

MODEL = ColourEncoder.model_id
CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from test_search_index import ColourEncoder
from sen_toolbox.search.index import open_index
from sen_toolbox.search.indexing import update_index
index = open_index('killed', ColourEncoder.model_id, uri=sys.argv[3])
update_index(index, ColourEncoder(), sys.argv[2], batch_size=4,
             progress=lambda done, total: print(done, flush=True))
"""


class Server:
    """A Milvus of its own: free ports, a folder, and a process to kill."""

    def __init__(self, folder):
        self.folder, self._server = folder, None

    @property
    def uri(self):
        return f'http://127.0.0.1:{self._server.listen_port}'

    def start(self):
        milvus = pytest.importorskip('milvus', reason='the server has no wheel for this machine')
        # Its own way to wait does not notice a server that has ended.
        self._server = milvus.MilvusServer(wait_for_started=False)
        self._server.set_base_dir(str(self.folder))
        # It takes the next free one, as it does for its inner ports.
        self._server.listen_port = 19530
        # Seconds until a server that was killed is taken for dead, 30 by default.
        self._server.config.set('common.session.ttl', 3)
        self._server.start()
        until = time.monotonic() + 90
        while not self._is_healthy():
            ended = self._server.server_proc.poll()
            if ended is not None or time.monotonic() > until:
                log = (self.folder / 'logs' / 'milvus-stderr.log').read_text('utf-8', 'replace')
                raise RuntimeError(f'the server did not start ({ended}): {log[-500:]}')
            time.sleep(0.2)

    def _is_healthy(self):
        url = f'http://127.0.0.1:{self._server.webservice_port}/healthz'
        try:
            with urlopen(url, timeout=5) as answer:
                return b'OK' in answer.read()
        except OSError:
            return False

    def kill(self):
        self._server.server_proc.kill()
        self._server.server_proc.wait()
        self._server.stop()

    def stop(self):
        self._server.stop()


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    pytest.importorskip('pymilvus', reason='the extra milvus is not installed')
    server = Server(tmp_path_factory.mktemp('milvus'))
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
def test_a_server_holds_and_finds_what_a_folder_does(server, gallery, tmp_path):
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


@pytest.mark.slow
def test_a_killed_client_loses_nothing_that_it_reported(server, gallery):
    command = [sys.executable, '-c', CHILD, str(ROOT / 'tests'), str(gallery), server.uri]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    reported = int(child.stdout.readline())
    child.kill()
    child.communicate()
    index = open_index('killed', MODEL, uri=server.uri)
    paths = sorted(map(str, gallery.glob('*/*.png')))
    assert set(paths[:reported]) <= set(index.files())
    report = update_index(index, ColourEncoder(), gallery)
    assert report.added <= len(paths) - reported
    assert contents(index) == {(path, None): expected(path).tobytes() for path in paths}


@pytest.mark.slow
def test_two_writers_leave_what_one_would(server, gallery):
    def write(_):
        index = open_index('two', MODEL, uri=server.uri)
        return update_index(index, ColourEncoder(), gallery, batch_size=3)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
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
def test_a_killed_server_loses_nothing_that_it_took(server):
    index = open_index('taken', MODEL, uri=server.uri)
    vectors = np.eye(20, 96, dtype=np.float32)
    files = {f'/{number}': FileState(1, 2, 'digest') for number in range(20)}
    with pytest.raises(InterruptedError), index.writing():
        index.write(files, [Entry(path) for path in files], vectors)
        # Nothing is flushed.
        raise InterruptedError
    server.kill()
    server.start()
    index = open_index('taken', MODEL, uri=server.uri)
    assert index.files() == files
    assert {e.path: v.tobytes() for e, v in index.items()} == {
        path: vector.tobytes() for path, vector in zip(files, vectors, strict=True)
    }


@pytest.mark.parametrize('version', ['v2.2.16', '1.1.0'])
def test_a_server_that_is_too_old_is_refused_by_name(version):
    with pytest.raises(ValueError, match=rf'http://old:1 is {version}, too old: start 2\.3'):
        _check_version(version, 'http://old:1')


@pytest.mark.parametrize('version', ['v2.3.5-lite', 'v2.3.0', '2.10.1', 'a build of ours'])
def test_newer_servers_and_unnamed_builds_are_taken(version):
    _check_version(version, 'http://new:1')
