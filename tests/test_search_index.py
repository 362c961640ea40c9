"""The gallery index: exact, incremental, whole after a crash, in a folder and in Milvus Lite."""

import hashlib
import importlib.util
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sen_toolbox.io import read_regular
from sen_toolbox.search.images import MAX_PIXELS, find_files
from sen_toolbox.search.index import Entry, FileState, ModelId, open_index
from sen_toolbox.search.indexing import update_index

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location('kill', ROOT / 'benchmarks/kill_indexing.py')
kill_indexing = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kill_indexing)
ColourEncoder, draw, expected = (
    kill_indexing.ColourEncoder,
    kill_indexing.draw,
    kill_indexing.expected,
)
MODEL = ColourEncoder.model_id


@pytest.fixture
def gallery(tmp_path):
    folder, rng = tmp_path / 'gallery', random.Random(0)
    (folder / 'camera 1').mkdir(parents=True)
    for number in range(5):
        draw(folder / f'{number}.png', rng)
        draw(folder / 'camera 1' / f'{number}.PNG', rng)
    (folder / 'notes.txt').write_text('no image')
    return folder


# The client and the server inside the process take seconds to start.
WAYS = ['folder', 'folder, float16', pytest.param('milvus', marks=pytest.mark.slow)]


@pytest.fixture(params=WAYS)
def index(request, tmp_path):
    if request.param == 'milvus':
        pytest.importorskip('pymilvus')
        return open_index('people', MODEL, uri=str(tmp_path / 'people.db'))
    return open_index(tmp_path / 'index', MODEL, half=request.param.endswith('16'))


def update(index, source, **options):
    report = update_index(index, ColourEncoder(), source, batch_size=4, **options)
    return report.added, report.changed, report.removed, report.unchanged, len(report.skipped)


def contents(index):
    return {entry.path: vector for entry, vector in index.items()}


def assert_holds(index, paths):
    found = contents(index)
    assert sorted(found) == sorted(map(str, paths))
    assert len(index) == len(found)
    for path, vector in found.items():
        np.testing.assert_allclose(vector, expected(path), atol=1e-4)  # float16: 0.1 * 2 ** -11


def test_search_ranks_by_inner_product(index, gallery):
    update(index, gallery)
    paths = [str(p) for p in [*gallery.glob('*.png'), *gallery.glob('*/*.PNG')]]
    queries = np.stack([expected(path) for path in paths[:3]])
    for query, hits in zip(queries, index.search(queries, 100), strict=True):
        slow = sorted(paths, key=lambda path: -float(expected(path) @ query))
        assert [entry.path for entry, _ in hits] == slow
        scores = [float(expected(path) @ query) for path in slow]
        assert [score for _, score in hits] == pytest.approx(scores, abs=2e-3)
    assert [len(hits) for hits in index.search(queries, 2)] == [2, 2, 2]


def test_new_changed_and_deleted_files_are_noticed(index, gallery):
    assert update(index, gallery) == (10, 0, 0, 0, 0)
    assert update(index, gallery) == (0, 0, 0, 10, 0)
    rng = random.Random(1)
    draw(gallery / 'new.png', rng)
    draw(gallery / '0.png', rng)
    (gallery / '1.png').unlink()
    os.utime(gallery / '2.png', ns=(1, 1))  # touched, content as before
    assert update(index, gallery) == (1, 1, 1, 9 - 1, 0)
    assert_holds(index, [*gallery.glob('*.png'), *gallery.glob('*/*.PNG')])
    assert update(index, gallery) == (0, 0, 0, 10, 0)


def test_a_folder_or_file_alone_leaves_the_rest(index, gallery):
    update(index, gallery)
    (gallery / '0.png').unlink()
    (gallery / 'camera 1' / '0.PNG').unlink()
    assert update(index, gallery / 'camera 1') == (0, 0, 1, 4, 0)
    assert len(index) == 9
    assert update(index, [gallery / '0.png', gallery / '1.png']) == (0, 0, 1, 1, 0)
    assert len(index) == 8


def test_a_search_stays_within_a_folder(index, gallery):
    (gallery / 'camera 11').mkdir()
    shutil.copy(gallery / '0.png', gallery / 'camera 11')
    update(index, gallery)
    [hits] = index.search(expected(gallery / '0.png')[None], 100, within=str(gallery / 'camera 1'))
    assert sorted(e.path for e, _ in hits) == sorted(map(str, gallery.glob('camera 1/*.PNG')))
    assert index.search(expected(gallery / '0.png')[None], 9, within='/nowhere') == [[]]


def test_identities_are_kept_and_can_be_corrected(index, gallery):
    path = str(gallery / '3.png')
    query = expected(path)[None]
    update(index, gallery, identities={path: '7'})
    assert index.search(query, 1)[0][0][0] == Entry(path, '7')
    update(index, gallery, identities={path: '8'})
    assert index.search(query, 1)[0][0][0] == Entry(path, '8')
    assert index.search(query, 2)[0][1][0].identity is None


def test_a_file_with_many_persons_is_replaced_as_a_whole(index):
    vectors = np.eye(96, dtype=np.float32)
    places = [dict(frame=frame, box=[1, 2, 3, 4]) for frame in range(3)]
    with index.writing():
        for digest, count in (('a', 3), ('b', 2)):
            index.write(
                {'/v.avi': FileState(1, 1, digest)},
                [Entry('/v.avi', None, place) for place in places[:count]],
                vectors[:count],
            )
    assert [
        entry.place for entry, _ in sorted(index.items(), key=lambda i: i[0].place['frame'])
    ] == [
        places[0],
        places[1],
    ]
    assert index.search(vectors[1:2], 1)[0][0] == (Entry('/v.avi', None, places[1]), 1.0)


def test_a_write_that_fails_leaves_nothing_and_the_next_is_whole(tmp_path):
    index = open_index(tmp_path / 'index', MODEL)
    vectors, state = np.eye(1, MODEL.dim, dtype=np.float32), FileState(1, 2, 'digest')
    with index.writing():
        with pytest.raises(TypeError, match='JSON'):
            index.write({'/a': state}, [Entry('/a', None, dict(box=object()))], vectors)
        assert not index.files()
        index.write({'/b': state}, [Entry('/b', None, {})], vectors)
    assert index.files() == {'/b': state} and list(contents(index)) == ['/b']


def test_threads_write_by_turns(tmp_path):
    index = open_index(tmp_path / 'index', MODEL)
    vectors, state = np.eye(1, MODEL.dim, dtype=np.float32), FileState(1, 2, 'digest')
    with index.writing(), ThreadPoolExecutor(1) as pool:
        index.write({'/a': state}, [Entry('/a', None, {})], vectors)
        pool.submit(index.write, {'/b': state}, [Entry('/b', None, {})], vectors).result()
        index.write({'/c': state}, [Entry('/c', None, {})], vectors)
    assert list(contents(index)) == ['/a', '/b', '/c']


def test_an_index_of_another_model_is_refused_by_name(index, gallery, tmp_path):
    update(index, gallery)
    where = dict(uri=str(index.uri)) if hasattr(index, 'uri') else {}
    name = index.collection if where else index.folder
    if where:
        index._client.close()
    other = open_index(name, ModelId('vit', 'other', 96), **where)
    message = (
        r"was made with the model 'colours' .*, not with 'vit' \(96 numbers, fingerprint other"
    )
    with pytest.raises(ValueError, match=message):
        other.search(np.eye(96, dtype=np.float32)[:1], 1)
    with pytest.raises(ValueError, match=message), other.writing():
        pass


def test_a_missing_index_says_how_to_make_one(index):
    assert len(index) == 0
    with pytest.raises(FileNotFoundError, match='make it with sen-search index'):
        index.search(np.eye(96, dtype=np.float32)[:1], 1)


def test_a_folder_has_no_graph(tmp_path):
    with pytest.raises(ValueError, match="'ivf' alone, got 'hnsw'"):
        open_index(tmp_path / 'index', MODEL).build_approximate('hnsw')


@pytest.mark.slow
def test_approximate_search_must_be_prepared_and_finds_later_entries(index):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1500, 96)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    paths = [f'/{number:04d}.png' for number in range(len(vectors))]
    state = FileState(1, 1, 'x')
    with index.writing():
        index.write(
            dict.fromkeys(paths[:1400], state), list(map(Entry, paths[:1400])), vectors[:1400]
        )
        with pytest.raises(ValueError, match='build_approximate'):
            index.search(vectors[:1], 1, approximate=True)
        index.build_approximate()
        index.write(
            dict.fromkeys(paths[1400:], state), list(map(Entry, paths[1400:])), vectors[1400:]
        )
        index.write({}, [], vectors[:0], removed=paths[:3])
    found = index.search(vectors, 1, approximate=True)
    assert [hits[0][0].path for hits in found[3:]] == paths[3:]
    assert {hits[0][0].path for hits in found[:3]}.isdisjoint(paths[:3])
    # It is searched exactly where that is asked for: with the numbers of the product of everything.
    [hits] = index.search(vectors[5:6], 1500)
    order = np.argsort(-(vectors[3:] @ vectors[5]), kind='stable') + 3
    assert [entry.path for entry, _ in hits[:20]] == [paths[row] for row in order[:20]]
    assert len(hits) == 1497
    # Made anew, it holds what came later, too.
    with index.writing():
        index.build_approximate()
    assert index.search(vectors[1450:1451], 1, approximate=True)[0][0][0].path == paths[1450]


def test_room_of_removed_entries_is_freed(tmp_path, gallery):
    index = open_index(tmp_path / 'index', MODEL)
    update(index, gallery)
    update(index, gallery)
    for path in gallery.glob('*/*.PNG'):
        path.unlink()
    for path in list(gallery.glob('*.png'))[:3]:
        path.unlink()
    update(index, gallery)
    assert_holds(index, gallery.glob('*.png'))
    [file] = (tmp_path / 'index').glob('vectors.*')
    assert file.stat().st_size == 2 * 96 * 4
    assert_holds(open_index(tmp_path / 'index', MODEL), gallery.glob('*.png'))


def test_what_a_crash_left_behind_the_count_is_overwritten(tmp_path, gallery):
    index = open_index(tmp_path / 'index', MODEL)
    update(index, gallery)
    with open(tmp_path / 'index' / 'vectors.0', 'ab') as file:
        file.write(b'\xff' * 1000)
    (tmp_path / 'index' / 'vectors.1').write_bytes(b'half a compaction')
    assert_holds(open_index(tmp_path / 'index', MODEL), contents(index))
    draw(gallery / 'new.png', random.Random(2))
    assert update(open_index(tmp_path / 'index', MODEL), gallery) == (1, 0, 0, 10, 0)
    assert_holds(index, [*gallery.glob('*.png'), *gallery.glob('*/*.PNG')])
    assert not (tmp_path / 'index' / 'vectors.1').exists()


@pytest.mark.slow
def test_a_killed_indexing_keeps_what_it_committed_and_finishes_as_if_undisturbed():
    command = [sys.executable, ROOT / 'benchmarks/kill_indexing.py', '--kills', '3']
    result = subprocess.run(
        [*map(str, command), '--images', '24'], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('3 kills')


def test_an_interrupted_indexing_continues(index, gallery):
    def stop(done, total):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update(index, gallery, progress=stop)
    assert len(index) == 8
    assert update(index, gallery) == (2, 0, 0, 8, 0)


def test_the_next_images_are_read_while_some_are_embedded(tmp_path, gallery):
    prepared, ahead = [], threading.Event()

    class Waiting(ColourEncoder):
        def prepare(self, image):
            prepared.append(image)
            if len(prepared) > 4:
                ahead.set()
            return super().prepare(image)

        def embed_prepared(self, images):
            assert ahead.wait(timeout=60)
            return super().embed_prepared(images)

    index = open_index(tmp_path / 'index', MODEL)
    update_index(index, Waiting(), gallery, batch_size=4)
    assert_holds(index, [*gallery.glob('*.png'), *gallery.glob('*/*.PNG')])


def test_two_writers_are_kept_apart_and_readers_are_not(tmp_path, gallery):
    index = open_index(tmp_path / 'index', MODEL)
    update(index, gallery)
    other = open_index(tmp_path / 'index', MODEL)
    with index.writing():
        with pytest.raises(BlockingIOError, match='another process is writing index .*index'):
            update(other, gallery)
        assert len(other.search(expected(gallery / '0.png')[None], 3)[0]) == 3
    assert update(other, gallery) == (0, 0, 0, 10, 0)


def test_a_reader_sees_what_another_index_object_wrote(tmp_path, gallery):
    reader, writer = (open_index(tmp_path / 'index', MODEL) for _ in range(2))
    update(writer, gallery)
    query = expected(gallery / '0.png')[None]
    assert len(reader.search(query, 100)[0]) == 10
    for path in list(gallery.glob('*.png'))[1:] + list(gallery.glob('*/*.PNG')):
        path.unlink()
    update(writer, gallery)
    assert len(reader.search(query, 100)[0]) == 1


def test_a_damaged_index_is_named(tmp_path, gallery):
    index = open_index(tmp_path / 'index', MODEL)
    update(index, gallery)
    vectors = tmp_path / 'index' / 'vectors.0'
    os.truncate(vectors, vectors.stat().st_size - 1)
    query = expected(gallery / '0.png')[None]
    with pytest.raises(ValueError, match='vectors.0 is damaged: it has 3839 bytes'):
        open_index(tmp_path / 'index', MODEL).search(query, 1)
    (tmp_path / 'index' / 'index.sqlite').write_bytes(b'not a database' * 100)
    with pytest.raises(ValueError, match='index.sqlite is damaged or not an index'):
        open_index(tmp_path / 'index', MODEL).search(query, 1)


def test_an_index_of_a_later_format_is_refused(tmp_path, gallery):
    index = open_index(tmp_path / 'index', MODEL)
    update(index, gallery)
    with sqlite3.connect(tmp_path / 'index' / 'index.sqlite') as db:
        db.execute("UPDATE meta SET value = '9' WHERE key = 'format'")
    with pytest.raises(ValueError, match='has format 9, this version reads 2: search it with'):
        index.search(np.eye(96, dtype=np.float32)[:1], 1)


@pytest.mark.parametrize('wrong', [np.full((1, 96), np.nan), np.zeros((1, 95)), np.zeros((2, 96))])
def test_vectors_that_are_none_are_refused(index, wrong):
    with index.writing(), pytest.raises(ValueError, match='expected 1 finite vectors of 96'):
        index.write({'/a': FileState(1, 1, '')}, [Entry('/a')], wrong.astype(np.float32))


def huge(path):
    """A PNG that says it has 20 000 x 20 000 pixels."""
    Image.new('L', (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack('>II', 20_000, 20_000)
    data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
    path.write_bytes(data)
    assert 20_000**2 > MAX_PIXELS


BAD_FILES = {
    'truncated.jpg': lambda path: path.write_bytes(_jpeg(path)[:600]),
    'truncated.png': lambda path: (draw(path, random.Random(3)), os.truncate(path, 60)),
    'text.jpg': lambda path: path.write_text('<html>not found</html>'),
    'empty.jpg': lambda path: path.touch(),
    'zeros.jpg': lambda path: path.write_bytes(bytes(5000)),
    'noise.png': lambda path: path.write_bytes(random.Random(4).randbytes(5000)),
    'magic.webp': lambda path: path.write_bytes(b'RIFF\x00\x00\x00\x00WEBPVP8 '),
    'magic.bmp': lambda path: path.write_bytes(b'BM' + bytes(60)),
    'huge.png': huge,
    'loop.jpg': lambda path: path.symlink_to(path),
    'broken.jpg': lambda path: path.symlink_to('nowhere'),
    'pipe.jpg': os.mkfifo,
    'folder.jpg': lambda path: path.mkdir(),
}
NO_FILE = {'folder.jpg'}


def _jpeg(path):
    Image.effect_noise((60, 120), 80).save(path, quality=90)
    return path.read_bytes()


def test_each_bad_file_is_listed_once_and_skipped(index, gallery):
    for name, make in BAD_FILES.items():
        make(gallery / name)
    (gallery / 'camera 1' / 'up').symlink_to(gallery)
    report = update_index(index, ColourEncoder(), gallery, batch_size=4)
    assert sorted(report.skipped) == sorted(str(gallery / n) for n in BAD_FILES if n not in NO_FILE)
    assert all(reason and '\n' not in reason for reason in report.skipped.values())
    assert 'pixels' in report.skipped[str(gallery / 'huge.png')]
    good = [p for p in [*gallery.glob('*.png'), *gallery.glob('camera 1/*.PNG')]]
    assert_holds(index, [p for p in good if p.name not in BAD_FILES])
    again = update_index(index, ColourEncoder(), gallery, batch_size=4)
    assert again.skipped == report.skipped
    assert (again.added, again.unchanged) == (0, 10)


def test_the_digest_of_a_file_is_of_the_pixels_that_were_embedded(tmp_path, gallery, monkeypatch):
    index, path = open_index(tmp_path / 'index', MODEL), gallery / '0.png'
    content, vector = path.read_bytes(), expected(path)

    def read_before_it_changes(*arguments):
        data = read_regular(*arguments)
        draw(path, random.Random(1))
        return data

    monkeypatch.setattr('sen_toolbox.search.images.read_regular', read_before_it_changes)
    update(index, [path])
    assert index.files()[str(path)].digest == hashlib.sha256(content).hexdigest()
    np.testing.assert_allclose(contents(index)[str(path)], vector, atol=1e-6)
    assert not np.allclose(vector, expected(path), atol=1e-2)


def test_a_file_that_becomes_unreadable_loses_its_entry_until_it_is_repaired(index, gallery):
    update(index, gallery)
    good = (gallery / '0.png').read_bytes()
    (gallery / '0.png').write_bytes(good[:50])
    (gallery / '1.png').write_bytes(b'')
    update(index, gallery)
    assert len(index) == 8
    (gallery / '0.png').write_bytes(good)
    assert update(index, gallery)[0] == 1
    assert len(index) == 9


def test_a_mislabelled_image_is_read_by_its_content(index, gallery):
    shutil.copy(gallery / '0.png', gallery / 'really a png.jpg')
    assert update(index, gallery) == (11, 0, 0, 0, 0)


def test_names_that_are_no_text_and_names_with_quotes_come_back(index, gallery):
    names = [b'caf\xe9.png', b'a"b\'c%.png', b'new\nline.png', '人.png'.encode()]
    for name in names:
        shutil.copy(gallery / '0.png', os.path.join(os.fsencode(gallery), name))
    assert update(index, gallery) == (14, 0, 0, 0, 0)
    assert update(index, gallery) == (0, 0, 0, 14, 0)
    assert {os.fsdecode(os.path.join(os.fsencode(gallery), n)) for n in names} < set(
        contents(index)
    )
    for name in names:
        os.unlink(os.path.join(os.fsencode(gallery), name))
    assert update(index, gallery) == (0, 0, 4, 10, 0)


def test_an_index_of_somebody_else_is_refused_by_its_folder(tmp_path, gallery, monkeypatch):
    index = open_index(tmp_path / 'index', MODEL)
    # Root, as whom tests may run, may write everything.
    monkeypatch.setattr(os, 'access', lambda path, mode: path != index.folder)
    with pytest.raises(PermissionError, match='index .* may not be written by this user'):
        update(index, gallery)
    assert list(index.folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_files_without_permission_are_listed(index, gallery):
    (gallery / '0.png').chmod(0)
    (gallery / 'camera 1').chmod(0)
    assert update(index, gallery) == (4, 0, 0, 0, 2)


def test_entries_below_a_folder_that_cannot_be_listed_now_are_kept(index, gallery, monkeypatch):
    update(index, gallery)
    walk = os.walk

    def fail(top, onerror, followlinks):
        for parent, names, files in walk(top, followlinks=followlinks):
            if 'camera 1' in names:
                names.remove('camera 1')
                onerror(PermissionError(13, 'Permission denied', str(gallery / 'camera 1')))
            yield parent, names, files

    monkeypatch.setattr(os, 'walk', fail)
    assert update(index, gallery) == (0, 0, 0, 5, 1)
    assert len(index) == 10


def test_an_empty_or_missing_folder_removes_nothing(index, gallery):
    update(index, gallery)
    shutil.rmtree(gallery)
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        update(index, gallery)
    gallery.mkdir()
    with pytest.raises(FileNotFoundError, match='holds no images'):
        update(index, gallery)
    assert len(index) == 10


def test_a_loop_of_folders_is_walked_once(gallery):
    (gallery / 'camera 1' / 'up').symlink_to(gallery)
    (gallery / 'self').symlink_to('self')
    assert len(find_files(gallery).paths) == 10


def test_milvus_that_does_not_answer_is_named():
    pytest.importorskip('pymilvus')
    with pytest.raises(ConnectionError, match=r'no Milvus at http://127\.0\.0\.1:1 '):
        open_index('people', MODEL, uri='http://127.0.0.1:1')
