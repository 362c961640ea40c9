"""The check of a data set finds each planted fault, in every layout, and none in a clean copy."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace

import pytest
from PIL import Image
from toy_data import LAYOUTS as TOY_LAYOUTS
from toy_data import ROOT, run_tool, tool, toy_records, write_toy_data

from sen_toolbox.datasets import PedesDataset
from sen_toolbox.datasets.check import (
    Counts,
    check_counts,
    check_dataset,
    foreign_characters,
    known_datasets,
    recognise,
    unreadable_images,
)
from sen_toolbox.datasets.layout import Layout
from sen_toolbox.registry import DATASETS

# Annotation file, image folder, names of path, id and split in a raw record.
RAW = {
    'CUHKPEDES': ('reid_raw.json', 'imgs', 'file_path', 'id'),
    'ICFGPEDES': ('ICFG-PEDES.json', 'imgs', 'file_path', 'id'),
    'RSTPReid': ('data_captions.json', 'imgs', 'img_path', 'id'),
    'UFine6926': ('UFine6926_Annotations_1024.json', '.', 'file_path', 'id'),
    'CaptionedImages': ('annotations.json', '.', 'image', 'identity'),
}
LAYOUT_NAMES = sorted(RAW)
KNOWN = known_datasets()


def with_counts(name, published):
    """The data set, as if it had been published with these counts."""
    return type(name, (KNOWN[name],), dict(LAYOUT=replace(KNOWN[name].LAYOUT, published=published)))


def write(root, name, records=None):
    """Writes a toy data set in any layout; image folders as in the published sets."""
    file, folder, path_key, id_key = RAW[name]
    if name in TOY_LAYOUTS:
        write_toy_data(root, name, records)
    else:
        records = toy_records() if records is None else records
        write_toy_data(root, 'CUHKPEDES', records)
        (root / 'reid_raw.json').unlink()
        (root / 'imgs').rename(root / 'images')
        raw = [
            {
                'split': record['split'],
                path_key: f'images/{record["file_path"]}',
                id_key: record['id'],
                'captions': record['captions'],
            }
            for record in records
        ]
        (root / file).write_text(json.dumps(raw), encoding='utf-8')
    return root


class Copy:
    """A data set on disk, to damage."""

    def __init__(self, root, name, published):
        self.root = root
        self.name = name
        self.published = published
        self.file, self.folder, self.path_key, self.id_key = RAW[name]

    @property
    def records(self):
        return json.loads((self.root / self.file).read_text(encoding='utf-8'))

    def change(self, index, **values):
        records = self.records
        records[index].update(values)
        self.write(records)

    def write(self, records):
        (self.root / self.file).write_text(json.dumps(records), encoding='utf-8')

    def image(self, index):
        return self.root / self.folder / self.records[index][self.path_key]

    def check(self):
        """The findings by kind; the counts of the clean copy count as published."""
        dataset = with_counts(self.name, self.published)
        report = check_dataset(self.root, dataset, workers=2)
        assert len({finding.kind for finding in report.findings}) == len(report.findings)
        return {finding.kind: finding for finding in report.findings}


def clean_records(name):
    """Toy records of persons with several images, each caption of one image only."""
    records = toy_records(name if name in TOY_LAYOUTS else 'CUHKPEDES')
    images = Counter(record['id'] for record in records)
    limit = KNOWN[name].LAYOUT.captions_per_image
    return [
        {**record, 'captions': [f'{text} Number {n}.' for text in record['captions'][:limit]]}
        for n, record in enumerate(records)
        if images[record['id']] > 1
    ]


@pytest.fixture(scope='module', params=LAYOUT_NAMES)
def pristine(request, tmp_path_factory):
    name = request.param
    root = write(tmp_path_factory.mktemp('pristine') / 'set', name, clean_records(name))
    counts = check_dataset(root, with_counts(name, {}), workers=2).counts
    published = {split: counts[split] for split in KNOWN[name].LAYOUT.published}
    return root, name, published


@pytest.fixture
def copy(pristine, tmp_path):
    root, name, published = pristine
    return Copy(shutil.copytree(root, tmp_path / 'set'), name, published)


def test_a_data_set_of_someone_else_is_recognised_and_can_be_tested_on_by_its_short_name(tmp_path):
    @DATASETS.register_module()
    class Theirs(PedesDataset):
        LAYOUT = Layout(name='Theirs', short_name='theirs', root='data/theirs')
        ANNOTATION_FILES = ('theirs.json',)

    try:
        (write(tmp_path, 'CUHKPEDES') / 'reid_raw.json').rename(tmp_path / 'theirs.json')
        assert recognise(tmp_path) is Theirs
        assert 'Theirs' in known_datasets()
        test_set = tool('test').test_set
        assert test_set('theirs') == ('Theirs', 'data/theirs')
        assert test_set('synthetic=drawn') == ('CUHKPEDES', 'drawn')
        with pytest.raises(ValueError, match="unknown data set 'other', choose from .*theirs"):
            test_set('other')
    finally:
        del DATASETS.module_dict['Theirs']


def test_each_layout_is_recognised(copy):
    assert recognise(copy.root) is KNOWN[copy.name]


def test_a_clean_copy_has_no_findings(copy):
    assert copy.check() == {}


def test_missing_images_are_found(copy):
    gone = copy.image(3)
    gone.unlink()
    finding = copy.check()['missing images']
    assert finding.is_fault
    assert [str(place) for place in finding.places] == [str(gone)]


def test_a_missing_folder_is_one_place_with_its_images_counted(copy):
    folder = copy.image(0).parent
    inside = len(list(folder.iterdir()))
    folder.rename(copy.root / 'elsewhere')
    found = copy.check()
    [place] = found['missing folders'].places
    assert place.endswith(f'train ({inside} images)')
    assert 'missing images' not in found


@pytest.mark.parametrize('damage', ['cut', 'empty', 'text'])
def test_images_that_cannot_be_decoded_whole_are_found(copy, damage):
    broken = copy.image(5)
    content = {'cut': broken.read_bytes()[:-300], 'empty': b'', 'text': b'no image'}[damage]
    broken.write_bytes(content)
    finding = copy.check()['unreadable images']
    assert finding.is_fault
    assert len(finding.places) == 1
    assert str(broken) in finding.places[0]


def test_a_person_with_one_image_is_a_note(copy):
    records = copy.records
    pid = records[0][copy.id_key]
    kept = [records[0], *(record for record in records if record[copy.id_key] != pid)]
    copy.write(kept)
    found = copy.check()
    assert [place.split(':')[0] for place in found['single images'].places] == [f'id {pid}']
    assert not found['single images'].is_fault


def test_a_caption_of_two_persons_is_a_note_whatever_its_case_and_spaces(copy):
    records = copy.records
    ids = sorted([records[0][copy.id_key], records[4][copy.id_key]])
    assert ids[0] != ids[1]
    copy.change(0, captions=['A man  in RED.'])
    copy.change(1, captions=['A man in red, again.'])
    copy.change(4, captions=['a man in red.'])
    finding = copy.check()['shared captions']
    assert list(finding.places) == [f"'a man in red.': ids {ids[0]}, {ids[1]}"]
    assert not finding.is_fault


def test_the_same_caption_on_two_images_of_one_person_is_fine(copy):
    assert copy.records[0][copy.id_key] == copy.records[1][copy.id_key]
    copy.change(0, captions=['A man in red.'])
    copy.change(1, captions=['A man in red.'])
    assert 'shared captions' not in copy.check()


@pytest.mark.parametrize('caption', [5, None, ['A man.']])
def test_captions_that_are_no_text_are_faults_with_their_record(copy, caption):
    copy.change(2, captions=['A man.', caption])
    found = copy.check()
    assert found['damaged records'].is_fault
    [place] = found['damaged records'].places
    assert f'record 2 has caption 1 {caption!r}, expected text' in place


def test_characters_of_other_scripts_are_a_note(copy):
    copy.change(0, captions=['A man in a 红色 coat\uff0c with a bag.'])
    copy.change(1, captions=['A woman in a café, “très chic” 🔴 – red.'])
    finding = copy.check()['foreign characters']
    assert len(finding.places) == 1
    assert finding.places[0].endswith(': 红色\uff0c')
    assert not finding.is_fault


@pytest.mark.parametrize(
    'caption',
    ["['A man in red.'", 'print(caption) A man', 'A man.\\u4e2d', 'x = a man', 'self.man'],
)
def test_code_in_captions_is_a_note(copy, caption):
    copy.change(0, captions=[caption])
    finding = copy.check()['code']
    assert len(finding.places) == 1
    assert not finding.is_fault


def test_empty_captions_are_a_note(copy):
    copy.change(0, captions=['  '])
    copy.change(2, captions=[])
    assert [place.split(': ')[1] for place in copy.check()['empty captions'].places] == [
        'no caption',
        'no caption',
    ]


def test_a_person_in_two_splits_is_a_note(copy):
    pid = copy.records[0][copy.id_key]
    copy.change(-1, **{copy.id_key: pid})
    found = copy.check()
    assert list(found['persons in several splits'].places) == [f'id {pid}: test, train']


def test_annotations_that_are_cut_off_are_a_fault(copy):
    path = copy.root / copy.file
    path.write_text(path.read_text()[:-40])
    found = copy.check()
    assert list(found) == ['annotations']
    assert 'is not valid JSON' in found['annotations'].places[0]


def test_an_image_of_two_persons_is_a_fault(copy):
    records = copy.records
    twin = {**records[-1], copy.path_key: records[0][copy.path_key], 'captions': ['Somebody.']}
    copy.write([*records, twin])
    found = copy.check()
    kind = 'damaged records' if copy.name == 'CaptionedImages' else 'image of several persons'
    assert found[kind].is_fault
    assert records[0][copy.path_key] in found[kind].places[0]


def test_other_counts_are_a_fault_where_any_are_published(copy):
    copy.write(copy.records[:-1])
    found = copy.check()
    if copy.name == 'CaptionedImages':
        assert 'counts' not in found
    else:
        [place] = found['counts'].places
        assert re.match('(test|all): .* ids, .* images, .* captions; published ', place)
        assert found['counts'].is_fault


# What only one of the sets has


@pytest.fixture
def cuhk(tmp_path):
    return write(tmp_path / 'set', 'CUHKPEDES')


def test_caption_all_in_place_of_the_annotations_is_a_fault(cuhk):
    (cuhk / 'reid_raw.json').rename(cuhk / 'caption_all.json')
    assert recognise(cuhk) is KNOWN['CUHKPEDES']
    report = check_dataset(cuhk, KNOWN['CUHKPEDES'])
    [finding] = report.findings
    assert (finding.kind, finding.is_fault) == ('no splits', True)
    assert 'ask for reid_raw.json' in finding.advice


def test_caption_all_under_the_name_of_the_annotations_is_a_fault(cuhk):
    records = json.loads((cuhk / 'reid_raw.json').read_text())
    for record in records:
        del record['split']
    (cuhk / 'reid_raw.json').write_text(json.dumps(records))
    [finding] = check_dataset(cuhk, KNOWN['CUHKPEDES']).findings
    assert finding.kind == 'no splits'
    assert 'even under that name' in finding.advice


def test_images_with_more_captions_than_published_for_the_set_are_a_note(cuhk):
    records = json.loads((cuhk / 'reid_raw.json').read_text())
    records[0]['captions'] = [f'A man, caption {number}.' for number in range(10)]
    (cuhk / 'reid_raw.json').write_text(json.dumps(records))
    found = {finding.kind: finding for finding in check_dataset(cuhk, KNOWN['CUHKPEDES']).findings}
    [place] = found['more captions'].places
    assert place.endswith(': 10 captions')
    assert 'published with 9 such images' in found['more captions'].advice


def test_missing_camera_folders_of_cuhk_pedes_are_explained(cuhk):
    (cuhk / 'imgs/test').rename(cuhk / 'Market')
    found = {finding.kind: finding for finding in check_dataset(cuhk, KNOWN['CUHKPEDES']).findings}
    assert 'Some archives lack CUHK01, CUHK03, Market' in found['missing folders'].advice


# The withdrawn release: NjtechCVLab/RSTPReid-Dataset, issue 2.
EARLY = {
    'train': Counts(3901, 19505, 39010),
    'val': Counts(100, 500, 1000),
    'test': Counts(100, 500, 1000),
}
NOW = {
    'train': Counts(3701, 18505, 37010),
    'val': Counts(200, 1000, 2000),
    'test': Counts(200, 1000, 2000),
}


def test_the_wrong_split_of_rstpreid_is_recognised_by_its_counts():
    [finding] = check_counts({**EARLY, 'all': Counts(4101, 20505, 41010)}, KNOWN['RSTPReid'].LAYOUT)
    assert (finding.kind, finding.is_fault) == ('withdrawn release', True)
    assert 'download the annotations again' in finding.advice


def test_the_published_counts_are_accepted():
    assert check_counts({**NOW, 'all': Counts(4101, 20505, 41010)}, KNOWN['RSTPReid'].LAYOUT) == []
    for name in ('CUHKPEDES', 'ICFGPEDES', 'UFine6926'):
        assert check_counts(KNOWN[name].LAYOUT.published, KNOWN[name].LAYOUT) == []


# Totals as the papers of the sets give them.
@pytest.mark.parametrize(
    ('name', 'total'),
    [
        ('CUHKPEDES', (13003, 40206, 80440)),
        ('ICFGPEDES', (4102, 54522, 54522)),
        ('RSTPReid', (4101, 20505, 41010)),
    ],
)
def test_the_published_splits_add_up_to_the_published_totals(name, total):
    splits = KNOWN[name].LAYOUT.published.values()
    assert tuple(sum(numbers) for numbers in zip(*splits, strict=True)) == total


def test_a_split_that_was_not_published_is_a_fault():
    counts = {**KNOWN['ICFGPEDES'].LAYOUT.published, 'val': Counts(1, 2, 2)}
    [finding] = check_counts(counts, KNOWN['ICFGPEDES'].LAYOUT)
    assert list(finding.places) == [
        'val: 1 ids, 2 images, 2 captions; published 0 ids, 0 images, 0 captions'
    ]


def test_a_drawn_set_is_not_taken_for_cuhk_pedes(cuhk):
    (cuhk / 'synthetic.json').write_text('{}')
    assert recognise(cuhk) is KNOWN['SyntheticPedes']
    assert check_counts({'train': Counts(1, 1, 1)}, KNOWN['SyntheticPedes'].LAYOUT) == []


# Parts


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('a man', ''),
        ('naïve — œuvre', ''),
        ('красный man', 'красный'),
        ('男の人', '男の人'),
        ('빨간', '빨간'),
    ],
)
def test_foreign_characters(text, found):
    assert foreign_characters(text) == found


def test_progress_counts_every_image(tmp_path):
    paths = [str(tmp_path / f'{number}.png') for number in range(5)]
    for path in paths[1:]:
        Image.new('RGB', (2, 3)).save(path)
    steps = []
    [error] = unreadable_images(
        paths, workers=3, progress=lambda done, total: steps.append((done, total))
    )
    assert paths[0] in error
    assert steps == [(done, 5) for done in range(1, 6)]


# The tool


@pytest.fixture
def published(copy, monkeypatch):
    """The tool takes the copy for a complete one."""
    layout = replace(KNOWN[copy.name].LAYOUT, published=copy.published)
    monkeypatch.setattr(KNOWN[copy.name], 'LAYOUT', layout)
    return copy


def status(*arguments):
    with pytest.raises(SystemExit) as info:
        run_tool('check_dataset', *arguments)
    return info.value.code


def test_the_tool_ends_with_0_for_a_clean_copy(published, capsys):
    assert status(published.root) == 0
    assert 'no faults' in capsys.readouterr().out


def test_the_tool_ends_with_1_for_faults_and_writes_them_all(published, tmp_path, capsys):
    for index in range(5):
        published.image(index).unlink()
    out = tmp_path / 'deep/report.json'
    assert status(published.root, '--out', out) == 1
    text = capsys.readouterr().out
    assert re.search(r'FAULT: missing images \(5\): .*; \.\.\.\n  Unpack', text)
    report = json.loads(out.read_text())
    assert report['has_faults'] is True
    [finding] = report['findings']
    assert len(finding['places']) == 5
    assert report['counts']['all']['images'] == len(published.records)


def test_the_tool_ends_with_2_where_nothing_is_recognised(tmp_path, capsys):
    assert status(tmp_path) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in ('reid_raw.json', 'ICFG-PEDES.json', 'annotations.csv'))


def test_the_tool_names_the_folder_inside(cuhk, capsys):
    assert status(cuhk.parent) == 2
    assert f'give one of {cuhk}' in capsys.readouterr().err


def test_the_tool_ends_with_2_where_the_type_given_has_no_file(cuhk, capsys):
    assert status(cuhk, '--type', 'RSTPReid') == 2
    assert 'should hold data_captions.json' in capsys.readouterr().err


def test_the_tool_names_the_data_sets_where_the_type_given_is_none(cuhk, capsys):
    assert status(cuhk, '--type', 'CUHK') == 2
    message = capsys.readouterr().err
    assert "there is no data set 'CUHK', choose from " in message
    assert 'CUHKPEDES' in message


def test_the_tool_may_skip_decoding(published):
    published.image(0).write_bytes(b'')
    assert status(published.root, '--workers', 0) == 0
    assert status(published.root) == 1


@pytest.mark.slow
def test_what_a_config_lacks_is_named_at_once(tmp_path, capsys):
    write(tmp_path, 'CUHKPEDES')
    config = ROOT / 'projects/vitaa/configs/vitaa_r50_cuhk.py'
    with pytest.raises(SystemExit, match='1'):
        run_tool('check_dataset', tmp_path, '--config', config)
    lines = [line for line in capsys.readouterr().out.splitlines() if ' lacks: ' in line]
    assert len(lines) == 2
    for line, file in zip(lines, ('common_words.json', 'resnet50'), strict=True):
        assert file in line


@pytest.mark.slow
def test_parts_of_pictures_that_a_config_wants_are_named(tmp_path, capsys):
    write(tmp_path / 'data', 'CUHKPEDES')
    config = tmp_path / 'own.py'
    config.write_text(
        f"_base_ = '{ROOT}/projects/vitaa/configs/vitaa_r50_cuhk.py'\n"
        "tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length=100)\n"
        'model = dict(backbone=dict(image=dict(pretrained=None, depth=18)))\n'
    )
    with pytest.raises(SystemExit):
        run_tool('check_dataset', tmp_path / 'data', '--config', config)
    [line] = [line for line in capsys.readouterr().out.splitlines() if ' lacks: ' in line]
    assert str(tmp_path / 'data' / 'segs') in line
