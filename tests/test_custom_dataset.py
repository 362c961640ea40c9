"""Your own data: CSV and JSON are read alike, and each mistake is named with its line."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from sen_toolbox.datasets import CaptionedImages
from sen_toolbox.datasets.check import check_dataset

CSV = """image,caption,identity,split
shots/1.png,"A man in a red coat, with a bag.",alice,train
shots/1.png,He wears a coat.,alice,train
shots/2.png,"A ""tall"" woman.",bob,train
3.png,A girl in blue.,carol,test
shots/4.png,A boy.,alice,train
"""
JSON = [
    {
        'image': 'shots/1.png',
        'captions': ['A man in a red coat, with a bag.', 'He wears a coat.'],
        'identity': 'alice',
        'split': 'train',
    },
    {'image': 'shots/2.png', 'caption': 'A "tall" woman.', 'identity': 'bob', 'split': 'train'},
    {'image': '3.png', 'caption': 'A girl in blue.', 'identity': 'carol', 'split': 'test'},
    {'image': 'shots/4.png', 'captions': ['A boy.'], 'identity': 'alice', 'split': 'train'},
]


@pytest.fixture
def root(tmp_path):
    for name in ('shots/1.png', 'shots/2.png', '3.png', 'shots/4.png'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new('RGB', (4, 9)).save(path)
    return tmp_path


def write_csv(root, text, encoding='utf-8'):
    (root / 'annotations.csv').write_text(text, encoding=encoding)
    return root


def write_json(root, records):
    (root / 'annotations.json').write_text(json.dumps(records), encoding='utf-8')
    return root


def read(root, split='train', person='person_id', **kwargs):
    dataset = CaptionedImages(data_root=root, split=split, **kwargs)
    keys = ('img_path', person, 'captions')
    return [
        tuple(dataset.get_data_info(index)[key] for key in keys) for index in range(len(dataset))
    ]


def test_csv_and_json_give_the_same_records(root):
    expected = [
        (str(root / 'shots/1.png'), 0, ['A man in a red coat, with a bag.']),
        (str(root / 'shots/1.png'), 0, ['He wears a coat.']),
        (str(root / 'shots/2.png'), 1, ['A "tall" woman.']),
        (str(root / 'shots/4.png'), 0, ['A boy.']),
    ]
    write_json(root, JSON)
    assert read(root, person='label') == expected
    write_csv(root, CSV)
    assert read(root, person='label') == expected


def test_csv_comes_before_json(root):
    write_json(root, JSON)
    write_csv(root, 'image,caption,identity,split\n3.png,A girl.,carol,test\n')
    assert read(root, 'test') == [(str(root / '3.png'), 0, ['A girl.'])]


def test_in_evaluation_a_text_identity_is_its_place_in_the_order_of_all(root):
    write_csv(root, CSV)
    assert read(root, 'test') == [(str(root / '3.png'), 2, ['A girl in blue.'])]


def test_whole_numbers_are_kept_as_ids(root):
    text = CSV.replace('alice', '70').replace('bob', '9').replace('carol', '12')
    write_csv(root, text)
    assert [person_id for _, person_id, _ in read(root, test_mode=True)] == [70, 9, 70]
    records = [
        {**record, 'identity': number} for record, number in zip(JSON, (70, 9, 12, 70), strict=True)
    ]
    (root / 'annotations.csv').unlink()
    write_json(root, records)
    assert [person_id for _, person_id, _ in read(root, test_mode=True)] == [70, 9, 70]


@pytest.mark.parametrize('other', ['007', '-7', '7.0', '٧', '1' * 19])
def test_identities_that_only_look_like_numbers_are_text(root, other):
    write_csv(root, CSV.replace('alice', '7').replace('bob', other).replace('carol', '5'))
    person_ids = [person_id for _, person_id, _ in read(root, test_mode=True)]
    order = sorted(['7', other, '5'])
    assert person_ids == [order.index('7'), order.index(other), order.index('7')]


def test_columns_may_stand_in_any_order_beside_others_after_a_mark_of_excel(root):
    text = 'split,note, identity ,caption,image\r\ntest,x,5,A girl in blue.,3.png\r\n,,,,\r\n'
    write_csv(root, text, encoding='utf-8-sig')
    assert read(root, 'test') == [(str(root / '3.png'), 5, ['A girl in blue.'])]


def test_a_caption_may_have_several_lines_and_any_characters(root):
    write_csv(root, 'image,caption,identity,split\n3.png,"A girl\nin a café 👩.",5,test\n')
    assert read(root, 'test')[0][2] == ['A girl\nin a café 👩.']


def test_images_elsewhere_are_found_through_a_link_and_not_by_their_absolute_path(
    root, tmp_path_factory
):
    elsewhere = tmp_path_factory.mktemp('elsewhere')
    Image.new('RGB', (4, 9)).save(elsewhere / 'a.png')
    write_csv(root, f'image,caption,identity,split\n{elsewhere}/a.png,A girl.,5,test\n')
    with pytest.raises(
        ValueError, match='line 2 has the image .*, expected a path below .* a link'
    ):
        read(root, 'test')
    (root / 'linked').symlink_to(elsewhere)
    write_csv(root, 'image,caption,identity,split\nlinked/a.png,A girl.,5,test\n')
    assert read(root, 'test')[0][0] == str(root / 'linked' / 'a.png')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'lacks the columns image, caption, identity, split; its first line is ..$'),
        (
            'image,caption,name,split\n',
            "lacks the columns identity; its first line is 'image,caption,name,split'$",
        ),
        ('image;caption;identity;split\n', "lacks .*;split'; separate columns by commas"),
        (
            CSV.replace('"A man in a red coat, with a bag."', 'A man in a red coat, with a bag.'),
            'line 2 has 5 cells, the first line 4: put double quotes around captions with commas',
        ),
        (CSV.replace('bob', ' '), "line 4 has the identity ' ', expected text"),
        (CSV.replace('shots/2.png', ''), "line 4 has the image '', expected text"),
        (CSV.replace('test', 'query'), "line 5 has the unknown split 'query', .* train, val, test"),
        (
            CSV.replace('shots/4.png,A boy.,alice', 'shots/1.png,A boy.,bob'),
            r"line 6 gives the image 'shots/1.png' the identity 'bob', but .* line 2 gives it "
            "'alice'",
        ),
        (
            CSV.replace('A boy.,alice,train', 'A boy.,alice,train\nshots/4.png,He.,alice,test'),
            "line 7 gives the image 'shots/4.png' the split 'test', but .* line 6 gives it 'train'",
        ),
        (
            CSV.replace('A boy.,alice,train', 'A boy.,alice,test'),
            "line 6 has the identity 'alice' in test, but .* line 2 in train",
        ),
        (
            CSV.replace('shots/4.png,A boy.,alice', './shots/1.png,A boy.,bob'),
            "line 6 gives the image 'shots/1.png' the identity 'bob', but .* line 2 gives it",
        ),
        (
            'image,caption,caption,identity,split\na.png,One.,Two.,bob,train\n',
            'has several columns caption: give each further caption a line of its own',
        ),
        (CSV + '3.png,"A girl,carol,test\n', r'line 7 is not valid CSV \(unexpected end of data\)'),
    ],
)
def test_a_mistake_in_csv_is_named_with_its_line(root, text, message):
    write_csv(root, text)
    with pytest.raises(ValueError, match=rf'annotations\.csv:? {message}'):
        read(root)


def test_all_damaged_lines_are_told_by_the_check_in_one_run_and_the_rest_is_checked(root):
    text = CSV.replace('test', 'query').replace('bob', ' ')
    write_csv(root, text + 'shots/9.png,A tall man.,carol,train\nshots/4.png,A boy\n')
    with pytest.raises(ValueError, match=r"line 4 has the identity ' '.* \(and 2 more, which "):
        read(root)
    found = {finding.kind: finding for finding in check_dataset(root, CaptionedImages).findings}
    places = found['damaged records'].places
    assert [re.search(r'line \d', place)[0] for place in places] == ['line 4', 'line 5', 'line 8']
    assert [Path(place).name for place in found['missing images'].places] == ['9.png']


def test_csv_in_another_encoding_is_an_error_with_its_place_and_the_repair(root):
    (root / 'annotations.csv').write_bytes(b'image,caption,identity,split\n3.png,caf\xe9,5,test\n')
    with pytest.raises(ValueError, match='not UTF-8 text at byte 38: save it as "CSV UTF-8"'):
        read(root)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'identity': None}, 'record 1 lacks identity; it has image, caption, split'),
        ({'caption': None}, 'record 1 lacks either caption or captions; it has image'),
        ({'captions': ['A man.']}, 'record 1 lacks either caption or captions; it has image'),
        ({'identity': 1.5}, 'record 1 has the identity 1.5, expected text'),
        ({'identity': True}, 'record 1 has the identity True, expected text'),
        ({'caption': 5}, 'record 1 has caption 0 5, expected text'),
        (
            {'caption': None, 'captions': 'A man.'},
            "record 1 has captions 'A man.', expected a list",
        ),
    ],
)
def test_a_mistake_in_json_is_named_with_its_record(root, changes, message):
    damaged = {key: value for key, value in {**JSON[1], **changes}.items() if value is not None}
    write_json(root, [JSON[0], damaged])
    with pytest.raises(ValueError, match=message):
        read(root)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'image': 'a\0b.jpg'}, r"has the image 'a.x00b.jpg', expected text"),
        ({'image': '\ud83d'}, r'has the image .*, expected text'),
        ({'identity': '\ud83d'}, r'has the identity .*, expected text'),
        ({'identity': ['x' * 9999]}, r'has the identity .{99,115}, expected text'),
        ({'split': {'train': 1}}, r"has the split {'train': 1}, expected text"),
        ({'caption': '\ud83d'}, r'has caption 0 .*, expected text'),
    ],
)
def test_hostile_values_in_json_are_one_line_that_names_the_record(root, changes, message):
    record = dict(image='a.jpg', caption='A man.', identity='alice', split='train')
    write_json(root, [{**record, **changes}])
    with pytest.raises(ValueError, match=r'annotations\.json: record 0 ' + message) as caught:
        read(root)
    assert '\n' not in str(caught.value)


def test_json_records_must_be_objects(root):
    write_json(root, [['3.png', 'A girl.']])
    with pytest.raises(ValueError, match='record 0 is a list, expected a JSON object'):
        read(root)


def test_without_a_file_the_names_of_both_are_told(root):
    with pytest.raises(
        FileNotFoundError, match=r'should hold annotations\.csv or annotations\.json and the images'
    ):
        read(root)


def test_missing_images_are_counted(root):
    write_csv(root, CSV)
    (root / 'shots/2.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 of 3 images .*shots/2\.png'):
        read(root)


def test_a_split_without_images_lists_the_others(root):
    write_csv(root, CSV)
    with pytest.raises(ValueError, match=r"no records of split 'val' \(records: train 3, test 1\)"):
        read(root, 'val')
