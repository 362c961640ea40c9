"""Parts of a gallery: each file in exactly one, all of them together the whole."""

import os
import random
import shutil

import pytest
from test_search_index import MODEL, ColourEncoder, draw, expected

from sen_toolbox.search import PersonSearch
from sen_toolbox.search.cli import main
from sen_toolbox.search.images import find_files
from sen_toolbox.search.index import open_index
from sen_toolbox.search.indexing import update_index
from sen_toolbox.search.shard import Shard

COUNT = 3
# sha256sum of "a.png" is 7f071235805fbf58..., a multiple of 4.
GOLDEN = [True, False, False, False]


@pytest.fixture
def gallery(tmp_path):
    folder, rng = tmp_path / 'gallery', random.Random(0)
    for camera in ('', 'camera 1', 'camera 2'):
        (folder / camera).mkdir(parents=True, exist_ok=True)
        for number in range(6):
            draw(folder / camera / f'{number}.png', rng)
    return folder


def update(index, source, number, count=COUNT, **options):
    return update_index(
        index, ColourEncoder(), source, batch_size=4, shard=Shard(number, count), **options
    )


def every_shard(index, source, **options):
    return [update(index, source, number, **options) for number in range(1, COUNT + 1)]


def contents(index):
    return {(e.path, e.identity): vector.tobytes() for e, vector in index.items()}


def parts(folder, count):
    """Relative paths of the files of each part."""
    found = find_files(folder)
    return [
        [
            os.path.relpath(path, folder)
            for path in found.paths
            if Shard(number, count).holds(path, found.folders)
        ]
        for number in range(1, count + 1)
    ]


@pytest.mark.parametrize('count', [1, 2, 5, 40])
def test_every_file_is_in_exactly_one_part(gallery, count):
    found = parts(gallery, count)
    assert len(found) == count
    every = [os.path.relpath(path, gallery) for path in find_files(gallery).paths]
    assert sorted(sum(found, [])) == sorted(every)
    assert len(every) == 18


def test_parts_are_about_equal():
    names = [f'/gallery/camera/{number:06d}.jpg' for number in range(4000)]
    sizes = [sum(Shard(n, 4).holds(name, ['/gallery']) for name in names) for n in range(1, 5)]
    # 1000 +- 27 by chance.
    assert sum(sizes) == 4000
    assert min(sizes) > 860 and max(sizes) < 1140


def test_machines_that_mount_the_folder_elsewhere_agree(gallery, tmp_path):
    shutil.copytree(gallery, tmp_path / 'mounted' / 'elsewhere')
    assert parts(gallery, COUNT) == parts(tmp_path / 'mounted' / 'elsewhere', COUNT)
    # By SHA-256, so that no version of Python moves a file.
    assert [Shard(n, 4).holds('/g/a.png', ['/g']) for n in range(1, 5)] == GOLDEN


def test_the_outermost_folder_counts_whatever_the_order_of_sources(gallery):
    inner, outer = str(gallery / 'camera 1'), str(gallery)
    path = str(gallery / 'camera 1' / '3.png')
    held = [
        [Shard(n, 50).holds(path, folders) for n in range(1, 51)]
        for folders in ([outer], [inner, outer], [outer, inner])
    ]
    assert held[0] == held[1] == held[2]
    assert held[0].count(True) == 1


def test_all_parts_together_are_the_whole(gallery, tmp_path):
    who = {str(gallery / '1.png'): 'she', str(gallery / 'camera 2' / '5.png'): 'he'}
    whole, shared = (open_index(tmp_path / name, MODEL) for name in ('whole', 'shared'))
    update_index(whole, ColourEncoder(), gallery, identities=who)
    reports = every_shard(shared, gallery, identities=who)
    assert contents(shared) == contents(whole)
    assert shared.files() == whole.files()
    assert sum(report.added for report in reports) == 18
    assert [len(part) for part in parts(gallery, COUNT)] == [r.added for r in reports]
    # And again.
    assert [(r.added, r.removed, r.unchanged) for r in every_shard(shared, gallery)] == [
        (0, 0, report.added) for report in reports
    ]


def test_a_part_removes_and_changes_nothing_of_another(gallery, tmp_path):
    index = open_index(tmp_path / 'index', MODEL)
    every_shard(index, gallery)
    first, second, third = (gallery / part[0] for part in parts(gallery, COUNT))
    gone = {str(first), str(second)}
    first.unlink()
    second.unlink()
    draw(third, random.Random(7))
    report = update(index, gallery, 1)
    assert (report.removed, report.changed) == (1, 0)
    assert gone & set(index.files()) == {str(second)}
    report = update(index, gallery, 2)
    assert (report.removed, report.changed) == (1, 0)
    report = update(index, gallery, 3)
    assert (report.removed, report.changed) == (0, 1)
    assert dict(contents(index))[str(third), None] == expected(third).tobytes()
    assert len(index) == 16


def test_a_part_names_nobody_in_another(gallery, tmp_path):
    index = open_index(tmp_path / 'index', MODEL)
    every_shard(index, gallery)
    paths = [str(gallery / part[0]) for part in parts(gallery, COUNT)]
    update(index, gallery, 2, identities=dict.fromkeys(paths, 'who'))
    assert [path for path, who in contents(index) if who] == [paths[1]]


def test_a_part_without_files_is_nothing_wrong(gallery, tmp_path):
    index = open_index(tmp_path / 'index', MODEL)
    empty = next(n for n, part in enumerate(parts(gallery, 40), 1) if not part)
    assert update(index, gallery, empty, 40).added == 0
    assert len(index) == 0


@pytest.mark.slow
def test_parts_fill_one_collection(gallery, tmp_path):
    pytest.importorskip('pymilvus')
    index = open_index('people', MODEL, uri=str(tmp_path / 'people.db'))
    every_shard(index, gallery)
    assert contents(index) == {
        (path, None): expected(path).tobytes() for path in find_files(gallery).paths
    }
    gone = gallery / parts(gallery, COUNT)[1][0]
    gone.unlink()
    assert [report.removed for report in every_shard(index, gallery)] == [0, 1, 0]
    assert len(index) == 17


def test_the_command_and_python_take_parts(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = ['--model', str(made / 'm.safetensors')]
    ids = tmp_path / 'ids.json'
    ids.write_text('{"nobody.png": 3}')
    for part in ('1/2', '2/2'):
        arguments = ['index', str(made / 'crops'), '--shard', part, '--ids', str(ids)]
        assert main([*arguments, *model]) == 0
    out, err = capsys.readouterr()
    assert 'sen_index holds 5 persons' in out
    assert 'names' not in err
    search = PersonSearch(made / 'm.safetensors', index=tmp_path / 'python')
    counts = [search.index(made / 'crops', shard=part).added for part in ('1/2', '2/2')]
    assert sum(counts) == 5 and min(counts) < 5
    whole = PersonSearch(made / 'm.safetensors', index=tmp_path / 'sen_index')
    for found, wanted in zip(search.search('a man', k=9), whole.search('a man', k=9), strict=True):
        assert (found.path, found.score) == (wanted.path, pytest.approx(wanted.score, abs=1e-6))


@pytest.mark.parametrize('text', ['0/4', '5/4', '1', '1/0', 'a/b', '-1/4', '1/4/2', ''])
def test_what_names_no_part_is_told(text, capsys):
    with pytest.raises(ValueError, match=r'there is no shard|NUMBER/COUNT, such as 1/4'):
        Shard.parse(text)
    with pytest.raises(SystemExit) as caught:
        main(['index', 'crops', f'--shard={text}'])
    assert caught.value.code == 2
    assert 'shard' in capsys.readouterr().err
