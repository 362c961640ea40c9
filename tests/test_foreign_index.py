"""An index folder from elsewhere, or one with other things in it: nothing outside is touched."""

import json
import os
import random
import shutil
import sqlite3
import struct
from pathlib import Path

import faiss
import numpy as np
import pytest
from test_search_index import MODEL, ColourEncoder, contents, draw

from sen_toolbox.search import local_index
from sen_toolbox.search.approximate_search import build_lists
from sen_toolbox.search.index import Entry, FileState, ModelId, open_index
from sen_toolbox.search.index_database import read_entry
from sen_toolbox.search.indexing import update_index
from sen_toolbox.search.lists_file import check_lists_file

QUERY = np.eye(96, dtype=np.float32)[:1]


@pytest.fixture
def gallery(tmp_path):
    folder, rng = tmp_path / 'gallery', random.Random(0)
    folder.mkdir()
    for number in range(5):
        draw(folder / f'{number}.png', rng)
    return folder


@pytest.fixture
def folder(gallery, tmp_path):
    """Folder of an index of the gallery."""
    update(tmp_path / 'index', gallery)
    return tmp_path / 'index'


@pytest.fixture
def victim(tmp_path):
    """A file of the user's."""
    path = tmp_path / 'thesis.txt'
    path.write_text('years of work')
    return path


def update(folder, gallery, **options):
    index = open_index(folder, MODEL)
    update_index(index, ColourEncoder(), gallery, batch_size=4, **options)
    return index


def change(folder, *statements):
    with sqlite3.connect(folder / 'index.sqlite') as db:
        for statement in statements:
            db.execute(*statement) if isinstance(statement, tuple) else db.execute(statement)
    db.close()


def set_value(folder, key, value):
    change(folder, ('INSERT OR REPLACE INTO meta VALUES (?, ?)', (key, value)))


def files_in(folder):
    return {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def use_everywhere(folder, gallery):
    """Reads and writes an index in every way; the messages of all refusals."""
    draw(gallery / 'new.png', random.Random(7))
    (gallery / '0.png').unlink(missing_ok=True)
    refusals = []
    for use in (
        lambda index: index.search(QUERY, 3),
        lambda index: index.search(QUERY, 3, approximate=True),
        lambda index: list(index.items()),
        lambda index: index.files(),
        lambda index: len(index),
        lambda index: update(folder, gallery),
        lambda index: open_index(folder),
    ):
        try:
            use(open_index(folder, MODEL))
        except (ValueError, OSError) as error:
            refusals.append(str(error))
    assert all(text.isprintable() and 'delete' not in text for text in refusals)
    return refusals


# Of what the database says of the index.
VALUES = {
    'vectors elsewhere': ('vectors', '../thesis.txt'),
    'vectors by an absolute path': ('vectors', '/tmp/thesis.txt'),
    'another file of the folder as vectors': ('vectors', 'index.sqlite'),
    'vectors of another generation': ('vectors', 'vectors.1'),
    'lists elsewhere': ('lists', '../thesis.txt'),
    'lists of another generation': ('lists', 'lists.1.5'),
    'lists of more than there is': ('lists', 'lists.0.6'),
    'lists of no number': ('lists', 'lists.0.'),
    'more rows than the file has': ('rows', '1000000000000'),
    'fewer rows than entries': ('rows', '4'),
    'rows below zero': ('rows', '-1'),
    'rows that are no number': ('rows', 'many'),
    'rows in other digits': ('rows', '٥'),
    'more entries than there are': ('live', '6'),
    'fewer entries than there are': ('live', '4'),
    'another length': ('dim', '95'),
    'no length': ('dim', '0'),
    'an absurd length': ('dim', '99999999999'),
    'another kind of number': ('dtype', 'object'),
    'a wide number': ('dtype', 'float64'),
    'a format of control characters': ('format', '9\x1b[2J'),
    'a fingerprint of two lines': ('fingerprint', 'a\nb'),
    'a generation below zero': ('generation', '-1'),
    'a value that is no text': ('rows', b'5'),
}


@pytest.mark.parametrize('what', VALUES)
def test_a_value_that_does_not_fit_the_files_is_refused(folder, gallery, victim, what):
    set_value(folder, *VALUES[what])
    before = files_in(folder)
    refusals = use_everywhere(folder, gallery)
    assert len(refusals) >= 3
    assert all(str(folder) in text for text in refusals)
    assert victim.read_text() == 'years of work'
    after = files_in(folder)
    assert {p: after[p] for p in before} == before


@pytest.mark.parametrize(
    'key', ['format', 'model', 'fingerprint', 'dim', 'dtype', 'rows', 'live', 'generation']
)
def test_a_missing_value_is_named(folder, gallery, key):
    change(folder, ('DELETE FROM meta WHERE key = ?', (key,)))
    if key == 'format':
        change(folder, "INSERT INTO meta VALUES ('other', 'x')")
    refusals = use_everywhere(folder, gallery)
    assert len(refusals) == 7
    assert all(f"index.sqlite is damaged or not an index ('{key}' is" in t for t in refusals)


SCHEMAS = {
    'a trigger': 'CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM entries; END',
    'another table': 'CREATE TABLE bookmarks (url TEXT)',
    'a view': 'CREATE VIEW v AS SELECT * FROM meta',
    'an index that computes': 'CREATE INDEX i ON files (upper(digest))',
}


@pytest.mark.parametrize('what', SCHEMAS)
def test_a_database_with_anything_else_in_it_is_refused(folder, gallery, what):
    change(folder, SCHEMAS[what])
    before = (folder / 'index.sqlite').read_bytes()
    assert len(use_everywhere(folder, gallery)) == 7
    assert (folder / 'index.sqlite').read_bytes() == before


def test_a_database_of_another_program_stays_as_it_is(tmp_path, gallery):
    (tmp_path / 'index').mkdir()
    change(tmp_path / 'index', 'CREATE TABLE bookmarks (url TEXT)')
    before = files_in(tmp_path / 'index')
    assert len(use_everywhere(tmp_path / 'index', gallery)) == 7
    assert files_in(tmp_path / 'index') == before


ROWS = {
    'a path that is text': "UPDATE entries SET path = '/a.png' WHERE row = 1",
    'a relative path': "UPDATE entries SET path = x'612e706e67' WHERE row = 1",
    'a path with a zero': "UPDATE entries SET path = x'2f0061' WHERE row = 1",
    'an identity that is not text': "UPDATE entries SET identity = x'00' WHERE row = 1",
    'a place that is not JSON': "UPDATE entries SET place = '{' WHERE row = 1",
    'a place that is a list': "UPDATE entries SET place = '[]' WHERE row = 1",
    'a place that is nothing': 'UPDATE entries SET place = NULL WHERE row = 1',
    'a deep place': f"UPDATE entries SET place = '{'[' * 100_000}' WHERE row = 1",
    'a box of texts': """UPDATE entries SET place = '{"box": ["a", 1, 2, 3]}' WHERE row = 1""",
    'a time that never was': """UPDATE entries SET place = '{"time": NaN}' WHERE row = 1""",
    'a crop elsewhere': """UPDATE entries SET place = '{"crop": "../../a.jpg"}' WHERE row = 1""",
    'a crop anywhere': """UPDATE entries SET place = '{"crop": "/etc/a.jpg"}' WHERE row = 1""",
    'a crop that is a number': """UPDATE entries SET place = '{"crop": 7}' WHERE row = 1""",
    'a row beyond the vectors': 'UPDATE entries SET row = 99 WHERE row = 1',
    'a row before the vectors': 'UPDATE entries SET row = -1 WHERE row = 1',
    'an identity that is no UTF-8': "UPDATE entries SET identity = CAST(x'ff' AS TEXT)",
    'an endless box': f"""UPDATE entries SET place = '{{"box": {[0] * 99_999}}}' WHERE row = 1""",
    'a size that is text': "UPDATE files SET size = 'large'",
    'a digest that is nothing': 'UPDATE files SET digest = NULL',
    'a problem that is bytes': "UPDATE files SET problem = x'00'",
}


@pytest.mark.parametrize('what', ROWS)
def test_a_row_that_no_index_has_is_refused(folder, gallery, what):
    change(folder, ROWS[what])
    refusals = [t for t in use_everywhere(folder, gallery) if 'is not prepared' not in t]
    assert refusals
    assert all('index.sqlite is damaged or not an index' in text for text in refusals)
    assert all(len(text) < 600 for text in refusals)


def test_vectors_that_are_not_finite_are_not_results(folder):
    vectors = np.memmap(folder / 'vectors.0', np.float32, 'r+')
    vectors[:] = np.inf
    vectors.flush()
    with pytest.raises(ValueError, match=r'vectors\.0 holds values that are not finite'):
        open_index(folder, MODEL).search(np.abs(QUERY), 3)


def test_a_flipped_bit_does_not_make_one_person_the_best_result_of_every_query(folder):
    vectors = np.memmap(folder / 'vectors.0', np.float32, 'r+')
    # The highest bit of an exponent that says "below 1".
    vectors.view(np.uint32)[5] ^= 1 << 30
    vectors.flush()
    assert np.isfinite(vectors).all()
    with pytest.raises(ValueError, match=r'vectors\.0 holds vectors longer than 1'):
        open_index(folder, MODEL).search(np.ones((1, 96), np.float32) / 96**0.5, 3)


def test_a_damaged_tree_of_entries_is_one_line(folder, gallery, monkeypatch):
    """SQLite counts what is there, and finds no more than its tree leads to."""
    with pytest.raises(ValueError, match='a vector has no entry'):
        read_entry(None)
    for rows in ([0, 99], [-1, 2]):
        monkeypatch.setattr(local_index, 'live_rows', lambda *_, rows=rows: np.array(rows))
        with pytest.raises(ValueError, match=r'index.sqlite is damaged .*other vectors than 5'):
            open_index(folder, MODEL).search(QUERY, 3, within=str(gallery))


def test_vectors_longer_than_1_are_not_written(folder, gallery):
    index = open_index(folder, MODEL)
    with index.writing(), pytest.raises(ValueError, match='expected L2-normalised vectors'):
        index.write({'/a.png': FileState(1, 1, 'x')}, [Entry('/a.png')], 2 * QUERY)
    assert len(index) == 5


@pytest.mark.parametrize(
    'name',
    ['index.sqlite', 'index.sqlite-journal', 'index.sqlite-wal', 'lock', 'vectors.0', 'vectors.1'],
)
def test_a_link_in_place_of_a_file_is_refused(folder, gallery, victim, name):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim)
    refusals = use_everywhere(folder, gallery)
    assert all(f'{name} is a link or not a file' in text for text in refusals)
    assert len(refusals) == 7
    assert victim.read_text() == 'years of work'


def test_links_in_the_folder_of_crops_are_refused(folder, tmp_path):
    from sen_toolbox.search.index_folder import check_crops

    (tmp_path / 'elsewhere').mkdir()
    check_crops(folder / 'crops')
    (folder / 'crops').symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(ValueError, match='crops is a link'):
        check_crops(folder / 'crops')
    (folder / 'crops').unlink()
    (folder / 'crops/ab').mkdir(parents=True)
    (folder / 'crops/ab' / ('c' * 32)).symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(ValueError, match='cccc is a link'):
        check_crops(folder / 'crops')


def test_a_journal_that_names_another_file_does_not_delete_it(folder, gallery, victim):
    """SQLite deletes what a journal names as the journal of several databases."""
    magic, name = bytes.fromhex('d9d505f920a163d7'), str(victim).encode()
    pages = (folder / 'index.sqlite').stat().st_size // 4096
    head = magic + struct.pack('>5I', 0, 0, pages, 512, 4096)
    tail = struct.pack('>I', 2**30 // 4096 + 1) + name
    tail += struct.pack('>2I', len(name), sum(name)) + magic
    (folder / 'index.sqlite-journal').write_bytes(head.ljust(512, b'\0') + tail)
    refusals = use_everywhere(folder, gallery)
    assert len(refusals) == 7
    assert all('index.sqlite-journal names another file' in text for text in refusals)
    assert victim.exists()


@pytest.mark.parametrize(
    'name', ['vectors.csv', 'lists.txt', 'lock', 'notes.txt', 'index.sqlite', 'vectors.0']
)
def test_an_index_is_not_made_beside_other_things(tmp_path, gallery, name):
    folder = tmp_path / 'project'
    folder.mkdir()
    (folder / name).write_text('mine')
    with pytest.raises(ValueError, match='not an index'):
        update(folder, gallery)
    assert files_in(folder) == {folder / name: b'mine'}


def test_what_a_user_puts_into_the_folder_of_an_index_stays(folder, gallery):
    names = ['vectors.csv', 'lists.txt', 'vectors.1.bak', 'lists.0', 'vectors.01', 'vectors.']
    for name in names:
        (folder / name).write_text('mine')
    (folder / 'vectors.7').mkdir()
    draw(gallery / 'new.png', random.Random(7))
    # A folder by that name is not of an index either, and is not touched.
    with pytest.raises(ValueError, match=r'vectors\.7 is a link or not a file'):
        update(folder, gallery)
    (folder / 'vectors.7').rmdir()
    (folder / 'vectors.1').write_bytes(b'half a compaction')
    (folder / 'lists.0.5.0123abcd.partial').write_bytes(b'half the groups')
    update(folder, gallery)
    left = {path.name for path in folder.iterdir()}
    assert left == {'index.sqlite', 'lock', 'vectors.0', *names}
    assert all((folder / name).read_text() == 'mine' for name in names)


def test_a_gallery_is_not_its_own_index(gallery):
    before = files_in(gallery)
    with pytest.raises(ValueError, match=r'gallery lies in .*gallery, which the index keeps'):
        update(gallery, gallery)
    with pytest.raises(ValueError, match=r'not an index and holds .0\.png'):
        update(gallery, [gallery.parent / 'none.png'])
    assert files_in(gallery) == before


def test_the_folder_of_an_index_is_never_part_of_the_gallery(gallery):
    for place in (gallery / 'sen_index', gallery / 'other'):
        update(place, gallery)
        (place / 'crops/ab').mkdir(parents=True)
        shutil.copy(gallery / '0.png', place / 'crops/ab')
    (gallery / 'again').symlink_to(gallery / 'sen_index')
    index = update(gallery / 'sen_index', gallery)
    assert sorted(contents(index)) == [str(gallery / f'{n}.png') for n in range(5)]
    for source in (
        gallery / 'sen_index',
        gallery / 'sen_index/crops',
        gallery / 'again/crops',
        [gallery / 'sen_index/crops/ab/0.png'],
    ):
        with pytest.raises(ValueError, match='which the index keeps its own files in'):
            update(gallery / 'sen_index', source)


def test_a_link_to_itself_is_skipped_as_any_bad_file(gallery, folder):
    (gallery / 'loop.png').symlink_to('loop.png')
    index = update(folder, [gallery / 'loop.png'])
    assert len(index) == 5


def test_a_killed_making_of_an_index_is_finished(tmp_path, gallery):
    folder = tmp_path / 'index'
    folder.mkdir()
    for name in ('lock', 'vectors.0', 'index.sqlite'):
        (folder / name).touch()
    assert len(update(folder, gallery)) == 5


def listed_vectors():
    vectors = np.random.default_rng(0).standard_normal((1200, 96)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope='module')
def groups(tmp_path_factory):
    """A file of groups of 1200 vectors."""
    path = tmp_path_factory.mktemp('groups') / 'lists.0.1200'
    build_lists(listed_vectors(), path)
    return path


def of_kind(kind):
    def write(path, groups):
        index = faiss.index_factory(96, kind, faiss.METRIC_INNER_PRODUCT)
        index.train(listed_vectors())
        index.add(listed_vectors())
        faiss.write_index(index, str(path))

    return write


def naming_another_file(path, groups):
    """What faiss writes of groups that lie in a file of their own."""
    index = faiss.read_index(str(groups))
    lists = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(path.parent / 'elsewhere'))
    lists.merge_from(index.invlists, 0)
    index.replace_invlists(lists, False)
    faiss.write_index(index, str(path))


def with_bytes(offset, data):
    def write(path, groups):
        content = bytearray(groups.read_bytes())
        content[offset : offset + len(data)] = data
        path.write_bytes(content)

    return write


LISTS = {
    'another kind': of_kind('Flat'),
    'groups of another kind': of_kind('IVF64,Flat'),
    'a graph': of_kind('HNSW8'),
    'groups in another file': naming_another_file,
    'a file that is cut': lambda path, groups: path.write_bytes(groups.read_bytes()[:-1]),
    'the head alone': lambda path, groups: path.write_bytes(groups.read_bytes()[:50]),
    'no content': lambda path, groups: path.write_bytes(b''),
    'text': lambda path, groups: path.write_text('groups' * 50_000),
    'more vectors': with_bytes(8, struct.pack('<q', 2**40)),
    'fewer than none': with_bytes(8, struct.pack('<q', -1)),
    'another length': with_bytes(4, struct.pack('<i', 95)),
    'another metric': with_bytes(33, struct.pack('<i', 1)),
    'more groups': with_bytes(37, struct.pack('<q', 2**60)),
    'no group looked at': with_bytes(45, struct.pack('<q', 0)),
    # Of 1200 // 39 groups.
    'a long group': with_bytes(53 + 45 + 30 * 96 * 4 + 82, struct.pack('<Q', 2**63)),
}


@pytest.mark.parametrize('what', LISTS)
def test_groups_that_this_toolbox_did_not_write_are_not_read(tmp_path, groups, what):
    check_lists_file(groups, rows=1200, dim=96)
    path = tmp_path / 'lists.0.1200'
    LISTS[what](path, groups)
    with pytest.raises(ValueError, match=r'lists\.0\.1200 is damaged or not of this index'):
        check_lists_file(path, rows=1200, dim=96)


def test_groups_of_another_number_of_vectors_are_refused(groups):
    for rows, dim in ((1199, 96), (1200, 95), (2**60, 96)):
        with pytest.raises(ValueError, match='is damaged or not of this index'):
            check_lists_file(groups, rows=rows, dim=dim)


def test_groups_that_name_other_rows_give_no_results(tmp_path, groups):
    index, paths = open_index(tmp_path / 'index', MODEL), [f'/{n}.png' for n in range(1200)]
    with index.writing():
        state = FileState(1, 1, 'x')
        index.write(dict.fromkeys(paths, state), list(map(Entry, paths)), listed_vectors())
    target = tmp_path / 'index' / 'lists.0.1200'
    content = bytearray(groups.read_bytes())
    content[-8:] = struct.pack('<q', 10**9)
    target.write_bytes(content)
    set_value(tmp_path / 'index', 'lists', target.name)
    with pytest.raises(ValueError, match='groups for approximate search are damaged'):
        open_index(tmp_path / 'index', MODEL).search(listed_vectors(), 50, approximate=True)


def test_the_model_of_an_index_is_known_without_one(folder, tmp_path):
    assert open_index(folder).model == MODEL
    assert len(open_index(folder).search(QUERY, 9)[0]) == 5
    with pytest.raises(FileNotFoundError, match='there is no index'):
        open_index(tmp_path / 'none')
    assert not (tmp_path / 'none').exists()


def test_another_program_that_keeps_a_collection_of_that_name_keeps_it(tmp_path, gallery):
    pymilvus = pytest.importorskip('pymilvus')
    client = pymilvus.MilvusClient(str(tmp_path / 'people.db'))
    client.create_collection('people', dimension=96)
    client.close()
    index = open_index('people', MODEL, uri=str(tmp_path / 'people.db'))
    with pytest.raises(ValueError, match='people at .* is not an index of this toolbox'):
        update_index(index, ColourEncoder(), gallery)


@pytest.mark.parametrize('is_folder', [False, True])
def test_milvus_lite_is_not_let_into_what_is_of_others(tmp_path, is_folder):
    pytest.importorskip('pymilvus')
    place = tmp_path / 'photos.db'
    if is_folder:
        place.mkdir()
    file = place / 'album' if is_folder else place
    file.write_text('mine')
    with pytest.raises(ValueError, match=r'photos\.db exists and is not of Milvus Lite'):
        open_index('people', MODEL, uri=str(place))
    assert files_in(tmp_path) == {file: b'mine'}


def test_places_that_users_make_stay_as_they_are(tmp_path):
    place = dict(frame=3, camera='north', box=[1, 2, 3, 4])
    index = open_index(tmp_path / 'index', ModelId('m', 'f', 96))
    with index.writing():
        index.write({'/v.avi': FileState(1, 1, 'x')}, [Entry('/v.avi', None, place)], QUERY)
    [(entry, _)] = index.items()
    assert entry.place == json.loads(json.dumps(place))
    assert Path(entry.path) == Path(os.sep, 'v.avi')
