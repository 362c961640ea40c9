"""What an index holds is shown, and forgotten when asked, whether its files are there or not."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from test_detection import ColourDetector, ColourEncoder, open_search, street

from sen_toolbox.search.cli import main
from sen_toolbox.search.index import open_index
from sen_toolbox.search.results_page import results_page


@pytest.fixture(autouse=True)
def colours(monkeypatch, tmp_path):
    """Commands run in the folder of the test, with a model that sees colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        'sen_toolbox.search.person_search.load_encoder', lambda *_, **__: ColourEncoder()
    )


@pytest.fixture
def search(tmp_path):
    """Two folders of whole images and one of photos, each with two persons, and a damaged file."""
    for name in ('old', 'old 2', 'photos'):
        (tmp_path / name).mkdir()
        for number, colour in enumerate(('red', 'green')):
            image = street((colour, 100), ('blue', 20)) if name == 'photos' else street((colour, 9))
            Image.fromarray(image).save(tmp_path / name / f'{number}.png')
    (tmp_path / 'old' / 'bad.png').write_text('not an image')
    search = open_search(tmp_path)
    search.index(['old', 'old 2'])
    search.index('photos', detect=ColourDetector())
    return search


def paths_of(search):
    return sorted({entry.path for entry, _ in search.gallery.items()})


def run(capsys, *arguments):
    code = main([*map(str, arguments), '--index', 'index'])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_entries_of_a_folder_that_is_gone_are_forgotten(search, tmp_path):
    shutil.rmtree(tmp_path / 'old')
    removed = search.remove(tmp_path / 'old')
    assert (removed.files, removed.persons) == (3, 2)
    assert {path.rpartition('/')[0] for path in paths_of(search)} == {
        str(tmp_path / 'old 2'),
        str(tmp_path / 'photos'),
    }
    assert str(tmp_path / 'old' / 'bad.png') not in search.gallery.files()


def test_entries_of_files_that_are_there_go_with_their_crops_and_the_files_stay(search, tmp_path):
    assert len(list((tmp_path / 'index/crops').glob('*/*/*.jpg'))) == 4
    removed = search.remove(['photos/0.png'])
    assert (removed.files, removed.persons) == (1, 2)
    assert (tmp_path / 'photos/0.png').exists()
    assert len(list((tmp_path / 'index/crops').glob('*/*/*.jpg'))) == 2
    # Indexed again, it is as it was.
    search.index('photos', detect=ColourDetector())
    assert len(search) == 8


def test_what_is_not_indexed_is_named_and_nothing_is_removed(search, tmp_path):
    for wrong in ('nowhere', 'ol', tmp_path / 'photos/9.png'):
        with pytest.raises(ValueError, match='the index holds nothing of '):
            search.remove(['old', wrong])
    assert len(search) == 8
    with pytest.raises(ValueError, match='holds nothing of'):
        open_search(tmp_path, 'none').remove('old')
    assert not (tmp_path / 'none').exists()


@pytest.mark.slow
def test_the_same_is_removed_from_milvus(search, tmp_path):
    pytest.importorskip('pymilvus')
    from sen_toolbox.search import PersonSearch

    there = PersonSearch(ColourEncoder(), index='people', uri=str(tmp_path / 'people.db'))
    there.index(['old', 'old 2'])
    there.index('photos', detect=ColourDetector())
    for name in ('old', 'photos'):
        assert there.remove(name).persons == search.remove(name).persons
    assert paths_of(there) == paths_of(search)
    there.gallery._client.close()
    assert main(['info', '--index', 'people', '--uri', str(tmp_path / 'people.db')]) == 0


def test_the_command_removes_and_needs_no_model(search, tmp_path, capsys, monkeypatch):
    monkeypatch.delattr('sen_toolbox.search.person_search.load_encoder')
    shutil.rmtree(tmp_path / 'old')
    assert run(capsys, 'remove', 'old', 'photos/1.png') == (
        0,
        '4 persons of 4 files removed; index holds 4 persons\n',
        '',
    )
    code, out, err = run(capsys, 'remove', 'old')
    assert (code, out) == (1, '')
    assert f'holds nothing of {tmp_path}/old; sen-search info lists' in err


def test_the_contents_are_shown_folder_by_folder(search, tmp_path, capsys):
    shutil.rmtree(tmp_path / 'old 2')
    code, out, err = run(capsys, 'info')
    assert (code, err) == (0, '')
    lines = out.splitlines()
    assert lines[:2] == [
        'index: 8 persons of 6 files',
        "model: 'colours' (3 numbers, fingerprint f)",
    ]
    assert lines[-3:] == [
        f'{tmp_path}/old: 2 persons of 2 files; 2 as whole images; 1 could not be read',
        f'{tmp_path}/old 2: 2 persons of 2 files; 2 as whole images; 2 are gone',
        f'{tmp_path}/photos: 4 persons of 2 files; 2 as people cut out, colours, every 1 s',
    ]
    details = dict(line.split(': ', 1) for line in lines[2:-3])
    assert list(details) == ['database', 'vectors', 'approximate search', 'crops']
    assert details['vectors'] == '0.00 MB, float32'
    assert details['crops'].startswith('4 files, ')


def test_a_missing_index_is_not_made_by_asking(tmp_path, capsys):
    for command in (['info'], ['remove', 'old']):
        code, out, err = run(capsys, *command)
        assert (code, out, err.count('\n')) == (1, '', 1)
        assert 'there is no index index: make it with sen-search index' in err
    assert not (tmp_path / 'index').exists()


def test_results_say_that_their_file_is_gone(search, tmp_path, capsys):
    shutil.rmtree(tmp_path / 'old')
    missing = {r.path: r.is_missing for r in search.search('red', k=9)}
    assert missing == {path: path.startswith(f'{tmp_path}/old/') for path in paths_of(search)}
    _, out, _ = run(capsys, 'query', 'red', '--k', 9)
    told = {line.split('  ')[-1] == '(the file is gone)': line for line in out.splitlines()}
    assert set(told) == {True, False}
    assert f'{tmp_path}/old/' in told[True]
    _, out, _ = run(capsys, 'query', 'red', '--k', 9, '--json')
    assert {row['path']: row['missing'] for row in json.loads(out)} == missing
    page = results_page('red', search.search('red', k=9))
    assert page.count('the file is gone') == 2


def test_mixed_ways_lose_nothing(search, tmp_path, capsys):
    before = paths_of(search), len(search)
    code, _, err = run(capsys, 'index', 'photos')
    assert (code, err.count('\n')) == (1, 1)
    assert '2 files were indexed in another way' in err
    assert (paths_of(search), len(search)) == before
    # Files that gave no entry so far may be read in any way.
    Image.fromarray(np.full((90, 40, 3), 99, np.uint8)).save(tmp_path / 'old' / 'bad.png')
    search.index(['old/bad.png'], detect=ColourDetector())
    assert search.index('photos', reindex=True).changed == 2
    assert len(open_index('index')) == 6
