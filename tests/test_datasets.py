"""The data sets: records, layouts, what they refuse, and loading with workers."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from PIL import Image

from sen_toolbox.datasets import (
    CUHKPEDES,
    ICFGPEDES,
    RSTPReid,
    SyntheticPedes,
    dataset_table,
    pedes,
)
from sen_toolbox.registry import DATASETS

TOKENIZER = dict(type='CLIPTokenizer', context_length=16)
PIPELINE = [
    dict(type='LoadImage'),
    dict(type='ResizeImage', size=(24, 8)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PadCrop', padding=3),
    dict(type='PruneCaption', prob=0.5),
    dict(type='Tokenize', tokenizer=TOKENIZER),
    dict(type='MaskWords', tokenizer=TOKENIZER),
    dict(type='PackPair'),
]
RULES = dict(type='RuleTagger')


def record(split, person_id, path, *captions, key='file_path'):
    return {'split': split, key: path, 'id': person_id, 'captions': list(captions)}


# Two training ids, neither contiguous nor in the order of a Python set, one with one image.
RECORDS = [
    record('train', 40, 'cam_a/1.png', 'A man in a red coat.', 'He wears a coat.'),
    record('train', 9, 'cam_a/2.png', 'A woman with a bag.', 'A bag on her arm.'),
    record('train', 40, 'cam_b/3.png', 'The same man in red.'),
    record('val', 90, 'cam_b/4.png', 'A boy.'),
    record('test', 91, 'cam_b/5.png', 'A girl in blue.', 'A blue dress.', 'She walks.'),
    record('test', 40, '6.png', 'A tall man.'),
]


@pytest.fixture
def folder(tmp_path):
    """Writes records and their images; returns the folder of the data set."""

    def write(records=RECORDS, name='reid_raw.json', images=True):
        root = tmp_path / 'set'
        root.mkdir(exist_ok=True)
        text = records if isinstance(records, str) else json.dumps(records)
        (root / name).write_text(text, encoding='utf-8')
        rng = np.random.RandomState(0)
        for raw in records if images else ():
            path = root / 'imgs' / (raw.get('file_path') or raw.get('img_path'))
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.randint(0, 256, size=(30, 11, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        return root

    return write


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(pedes, 'print_log', lambda text, **_: lines.append(text))
    return lines


def contents(dataset, person='person_id'):
    records = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [(record[person], record['captions']) for record in records]


# Records


def counts(dataset):
    return {key: value for key, value in dataset.metainfo.items() if key != 'fingerprint'}


def test_training_has_one_record_per_pair_and_labels_from_zero_beside_the_ids(folder):
    dataset = CUHKPEDES(data_root=folder(), split='train')
    assert [person_id for person_id, _ in contents(dataset)] == [40, 40, 9, 9, 40]
    assert contents(dataset, 'label') == [
        (1, ['A man in a red coat.']),
        (1, ['He wears a coat.']),
        (0, ['A woman with a bag.']),
        (0, ['A bag on her arm.']),
        (1, ['The same man in red.']),
    ]
    assert counts(dataset) == {
        'num_classes': 2,
        'num_images': 3,
        'num_captions': 5,
        'num_swapped': 0,
    }


def test_evaluation_has_one_record_per_image_and_the_original_ids(folder):
    dataset = CUHKPEDES(data_root=folder(), split='test')
    assert contents(dataset) == [
        (91, ['A girl in blue.', 'A blue dress.', 'She walks.']),
        (40, ['A tall man.']),
    ]
    assert dataset.metainfo == {'num_classes': 2, 'num_images': 2, 'num_captions': 4}
    assert 'label' not in dataset.get_data_info(0)


def test_the_training_split_can_be_evaluated(folder):
    dataset = CUHKPEDES(data_root=folder(), split='train', test_mode=True)
    assert [person_id for person_id, _ in contents(dataset)] == [40, 9, 40]
    assert [len(captions) for _, captions in contents(dataset)] == [2, 2, 1]


@pytest.mark.slow
def test_pruned_captions_stand_beside_the_captions(folder):
    root = folder()
    train = CUHKPEDES(data_root=root, split='train', tagger=RULES)
    assert train.get_data_info(1)['pruned'] == ['He coat']
    test = CUHKPEDES(data_root=root, split='test', tagger=RULES)
    assert test.get_data_info(0)['pruned'] == ['girl blue', 'blue dress', 'She']
    assert 'pruned' not in CUHKPEDES(data_root=root, split='train').get_data_info(0)


@pytest.mark.parametrize(
    ('build', 'name', 'key'),
    [
        (CUHKPEDES, 'reid_raw.json', 'file_path'),
        (ICFGPEDES, 'ICFG-PEDES.json', 'file_path'),
        (ICFGPEDES, 'ICFG_PEDES.json', 'file_path'),
        (ICFGPEDES, 'ICFG-PDES.json', 'file_path'),
        (RSTPReid, 'data_captions.json', 'img_path'),
    ],
)
def test_each_published_layout_is_read(folder, build, name, key):
    records = [{**raw, key: raw['file_path']} for raw in RECORDS]
    if key != 'file_path':
        records = [{k: v for k, v in raw.items() if k != 'file_path'} for raw in records]
    dataset = build(data_root=folder(records, name=name), split='train')
    assert len(dataset) == 5
    assert dataset.get_data_info(0)['img_path'].endswith('imgs/cam_a/1.png')


def test_the_published_spelling_of_icfg_goes_first(folder):
    folder(RECORDS[:1], name='ICFG_PEDES.json')
    dataset = ICFGPEDES(data_root=folder(name='ICFG-PEDES.json'), split='train')
    assert len(dataset) == 5


def test_nothing_is_read_before_it_is_needed(folder, tmp_path):
    lazy = CUHKPEDES(data_root=tmp_path / 'set', split='train', lazy_init=True)
    folder()
    assert lazy.metainfo['num_classes'] == 2
    assert len(lazy) == 5


def test_a_data_set_survives_pickling_and_a_subset_of_it_works(folder):
    dataset = CUHKPEDES(data_root=folder(), split='train', pipeline=PIPELINE, tagger=RULES)
    # Our own bytes of a moment ago, as a data worker receives them.
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert contents(copy) == contents(dataset)
    assert contents(dataset.get_subset([2, 0])) == [contents(dataset)[2], contents(dataset)[0]]


def test_a_config_builds_a_data_set_whose_sample_is_packed(folder):
    dataset = DATASETS.build(
        dict(type='CUHKPEDES', data_root=str(folder()), split='train', pipeline=PIPELINE,
             tagger=RULES)
    )  # fmt: skip
    sample = dataset[2]
    assert sample['images'].shape == (3, 24, 8)
    assert sample['tokens'].ids.shape == (1, 16)
    assert sample['per_image'] == {'person_ids': 9, 'labels': 0}


# Empty captions


def test_empty_captions_are_left_out_with_a_warning(folder, warnings):
    records = [
        record('train', 1, 'a.png', 'A man.', ' \n'),
        record('train', 2, 'b.png', ''),
        record('train', 4, 'c.png'),
        record('train', 5, 'd.png', 'A woman.'),
    ]
    root = folder(records)
    dataset = CUHKPEDES(data_root=root, split='train')
    assert contents(dataset, 'label') == [(0, ['A man.']), (1, ['A woman.'])]
    assert counts(dataset) == {
        'num_classes': 2,
        'num_images': 2,
        'num_captions': 2,
        'num_swapped': 0,
    }
    empty, none = warnings
    assert '1 images have empty captions' in empty and 'a.png' in empty
    assert '2 images have no caption' in none and 'b.png' in none and 'c.png' in none


def test_empty_captions_are_left_out_in_evaluation_too(folder, warnings):
    records = [record('test', 9, 'a.png', '', 'A man.'), record('test', 8, 'b.png', ' ')]
    dataset = CUHKPEDES(data_root=folder(records), split='test')
    assert contents(dataset) == [(9, ['A man.'])]
    assert len(warnings) == 2


def test_complete_captions_give_no_warning(folder, warnings):
    CUHKPEDES(data_root=folder(), split='train')
    assert warnings == []


def test_a_split_of_empty_captions_is_an_error(folder, warnings):
    with pytest.raises(ValueError, match="all captions of split 'train' are empty"):
        CUHKPEDES(data_root=folder([record('train', 1, 'a.png', '')]), split='train')


# What is refused


def test_an_unknown_split_is_refused(folder):
    with pytest.raises(ValueError, match="unknown split 'trian', choose one of train, val, test"):
        CUHKPEDES(data_root=folder(), split='trian')


def test_a_missing_folder_is_named_with_the_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no folder .*gone: .*reid_raw\.json .* imgs'):
        CUHKPEDES(data_root=tmp_path / 'gone', split='train')


def test_missing_annotations_name_every_accepted_file(tmp_path):
    names = r'ICFG-PEDES\.json or ICFG_PEDES\.json or ICFG-PDES\.json'
    with pytest.raises(FileNotFoundError, match=f'no annotation file .*{names}'):
        ICFGPEDES(data_root=tmp_path, split='train')


def test_caption_all_cannot_replace_the_annotations(folder):
    root = folder(name='caption_all.json')
    with pytest.raises(FileNotFoundError, match=r'caption_all\.json says nothing about splits'):
        CUHKPEDES(data_root=root, split='train')


@pytest.mark.parametrize('length', [1, 40, 200])
def test_truncated_json_is_an_error_with_file_and_place(folder, length):
    root = folder(json.dumps(RECORDS)[:length], images=False)
    with pytest.raises(ValueError, match=r'reid_raw\.json is not valid JSON at line 1, column'):
        CUHKPEDES(data_root=root, split='train')


def test_json_in_another_encoding_is_an_error_with_its_place(folder):
    root = folder()
    (root / 'reid_raw.json').write_bytes(b'["caf\xe9"]')
    with pytest.raises(ValueError, match=r'reid_raw\.json is not UTF-8 text at byte 5'):
        CUHKPEDES(data_root=root, split='train')


def test_json_that_is_no_list_is_refused(folder):
    with pytest.raises(ValueError, match='holds a dict, expected a list of records'):
        CUHKPEDES(data_root=folder('{"annotations": []}', images=False), split='train')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'id': None, 'captions': None}, r'record 1 lacks id, captions; it has split, file_path'),
        ({'split': 'training'}, r"record 1 has the unknown split 'training', .* train, val, test"),
        ({'id': '12'}, r"record 1 has the id '12', expected a whole number"),
        ({'id': 1.5}, r'record 1 has the id 1.5, expected a whole number'),
        ({'id': True}, r'record 1 has the id True, expected a whole number'),
        ({'file_path': 3}, r'record 1 has the file_path 3, not text'),
        ({'captions': 'A man.'}, r"record 1 has captions 'A man.', expected a list of texts"),
        ({'captions': ['A man.', 5]}, r'record 1 has caption 1 5, expected text'),
        ({'captions': ['\ud83d']}, r"record 1 has caption 0 '.ud83d', expected text"),
        ({'file_path': 'a\0b.jpg'}, r"record 1 has the file_path 'a.x00b.jpg', not text"),
        (
            {'file_path': '/etc/a.jpg'},
            r"record 1 has the file_path '/etc/a.jpg', expected a path b",
        ),
        ({'file_path': 'a/../../b.jpg'}, r'record 1 has the file_path .*, expected a path below'),
        ({'file_path': '..'}, r'record 1 has the file_path .*, expected a path below'),
        ({'file_path': 'C:b.jpg'}, r'record 1 has the file_path .*, expected a path below'),
        ({'file_path': r'a\..\b.jpg'}, r'record 1 has the file_path .*, expected a path below'),
        ({'file_path': '\udce9.jpg'}, r'record 1 has the file_path .*, not text'),
        ({'id': 2**63}, r'record 1 has the id 9223372036854775808, which is not below 2'),
        ({'id': -(10**40)}, r'record 1 has the id -10+, which is not below 2'),
        ({'split': ['train']}, r"record 1 has the unknown split \['train'\]"),
        ({'split': {'a': '\n' * 9999}}, r"record 1 has the unknown split {'a': .{40,80} \.\.\. "),
        ({'captions': {'a' * 9999: 1}}, r'record 1 has captions .{99,115}, expected a list'),
        ({'\x1b[31m\n': 3, 'id': None}, r"lacks id; it has .*'\\x1b\[31m\\n'$"),
    ],
)
def test_a_damaged_record_is_named(folder, changes, message):
    damaged = {key: value for key, value in {**RECORDS[1], **changes}.items() if value is not None}
    root = folder(json.dumps([RECORDS[0], damaged]), images=False)
    with pytest.raises(ValueError, match=message):
        CUHKPEDES(data_root=root, split='train')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[' * 100_000, 'reid_raw.json is nested too deeply to be read$'),
        ('[{"id": ' + '9' * 5000 + '}]', 'reid_raw.json holds a number of too many digits$'),
        ('', 'reid_raw.json is empty$'),
        ('[NaN', 'reid_raw.json is not valid JSON at line 1, column 5'),
        ('7', 'reid_raw.json holds a int, expected a list of records$'),
    ],
)
def test_json_without_sense_is_one_line_that_names_the_file(folder, text, message):
    with pytest.raises(ValueError, match=message):
        CUHKPEDES(data_root=folder(text, images=False), split='train')


def test_a_record_that_is_no_object_is_named(folder):
    with pytest.raises(ValueError, match='record 0 is a list, expected a JSON object'):
        CUHKPEDES(data_root=folder('[[]]', images=False), split='train')


def test_an_empty_split_is_an_error_that_lists_the_others(folder):
    root = folder(RECORDS[:3] + RECORDS[4:])
    with pytest.raises(ValueError, match=r"no records of split 'val' \(records: train 3, test 2\)"):
        CUHKPEDES(data_root=root, split='val')


def test_icfg_has_no_validation_split_and_says_so(folder):
    root = folder(RECORDS[:3] + RECORDS[4:], name='ICFG-PEDES.json')
    with pytest.raises(ValueError, match='published without a validation split; use test'):
        ICFGPEDES(data_root=root, split='val')


def test_an_empty_list_of_records_is_an_error(folder):
    with pytest.raises(ValueError, match=r'no records of split .* \(records: none\)'):
        CUHKPEDES(data_root=folder([]), split='train')


def test_a_missing_or_damaged_image_is_named_without_control_characters(folder):
    root = folder([record('train', 1, 'a\x1b[2J.png', 'A man.')])
    path = root / 'imgs' / 'a\x1b[2J.png'
    path.write_text('no image')
    with pytest.raises(ValueError, match=r'cannot decode image .*a\\x1b\[2J\.png'):
        CUHKPEDES(data_root=root, split='train', pipeline=PIPELINE[:1])[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r'are missing, e\.g\. .*a\\x1b\[2J\.png'):
        CUHKPEDES(data_root=root, split='train')


def test_missing_images_are_counted_and_the_first_three_named(folder):
    root = folder()
    records = RECORDS + [record('train', 1, f'new/{n}.png', 'A man.') for n in range(5)]
    (root / 'reid_raw.json').write_text(json.dumps(records))
    with pytest.raises(FileNotFoundError, match='5 of 8 images .* missing') as info:
        CUHKPEDES(data_root=root, split='train')
    assert all(f'new/{n}.png' in str(info.value) for n in range(3))
    assert 'new/3.png' not in str(info.value)
    CUHKPEDES(data_root=root, split='test')


def test_images_behind_a_link_to_a_folder_are_found(folder):
    root = folder()
    (root / 'imgs' / 'cam_a').rename(root / 'elsewhere')
    (root / 'imgs' / 'cam_a').symlink_to(root / 'elsewhere')
    assert len(CUHKPEDES(data_root=root, split='train')) == 5


@pytest.mark.parametrize('split', ['train', 'val'])
def test_an_image_that_cannot_be_decoded_is_an_error_not_another_image(folder, split):
    root = folder()
    dataset = CUHKPEDES(data_root=root, split=split, pipeline=PIPELINE[:1])
    path = dataset.get_data_info(0)['img_path']
    with open(path, 'r+b') as file:
        file.truncate(100)
    with pytest.raises(ValueError, match=f'cannot decode image {path}'):
        dataset[0]


def test_a_pipeline_that_returns_nothing_is_an_error_not_another_image(folder):
    dataset = CUHKPEDES(data_root=folder(), split='train', pipeline=[lambda results: None])
    with pytest.raises(ValueError, match=r'returned nothing for record 1 \(.*1\.png\)'):
        dataset[1]


# Statistics


def test_the_table_counts_images_once_and_words_of_captions(folder):
    root = folder()
    table = dataset_table({
        split: CUHKPEDES(data_root=root, split=split) for split in ('train', 'test')
    })  # fmt: skip
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.split('\n')]
    # The training captions have 25 words, those of the test split 12.
    assert ['train', '2', '3', '5', '1.67', '5.0'] in rows
    assert ['test', '2', '2', '4', '2.00', '3.0'] in rows


# Loading


def big_folder(folder):
    return folder([
        record('train', number // 4, f'{number}.png', 'A man in a red coat.', 'A woman, a bag.')
        for number in range(24)
    ])  # fmt: skip


def loader_config(root, **kwargs):
    return dict(
        batch_size=8,
        num_workers=2,
        persistent_workers=True,
        sampler=dict(type='IdentityGroupSampler', batch_size=8, num_instances=2),
        collate_fn=dict(type='sen_toolbox.collate_pairs'),
        dataset=dict(type='sen_toolbox.CUHKPEDES', data_root=str(root), split='train',
                     pipeline=PIPELINE, tagger=RULES),
        **kwargs,
    )  # fmt: skip


@pytest.fixture
def scope():
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('sen_toolbox'):
        yield


def test_workers_deliver_whole_batches_and_new_augmentations_in_each_epoch(folder, scope):
    config = loader_config(big_folder(folder))
    config['sampler'] = dict(type='DefaultSampler', shuffle=False)
    loader = Runner.build_dataloader(config, seed=0)
    first, second = list(loader), list(loader)
    assert [len(batch['labels']) for batch in first] == [8] * 6
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one['labels'], other['labels'])
        assert not torch.equal(one['images'], other['images'])
        assert not torch.equal(one['tokens'].ids, other['tokens'].ids)


class Counting(BaseModel):
    """Counts the batches of each epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.sizes = []

    def forward(self, images, tokens, labels, person_ids, mode='loss'):
        self.sizes.append(len(labels))
        return {'loss': self.weight * 0}


def test_a_runner_trains_over_epochs_of_different_lengths(folder, tmp_path, scope):
    config = loader_config(big_folder(folder))
    config.update(num_workers=0, persistent_workers=False)
    model = Counting()
    runner = Runner(
        model=model,
        work_dir=str(tmp_path / 'work'),
        train_dataloader=config,
        train_cfg=dict(by_epoch=True, max_epochs=4),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        param_scheduler=dict(type='LinearLR', start_factor=0.1, end=2, by_epoch=True,
                             convert_to_iter_based=True),
        randomness=dict(seed=1),
        default_scope='sen_toolbox',
        experiment_name='sampler',
    )  # fmt: skip
    runner.train()
    sampler = runner.train_dataloader.sampler
    lengths = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        lengths.append(len(sampler))
    assert len(set(lengths)) > 1
    assert sum(model.sizes) == sum(lengths)
    assert runner.epoch == 4


# Drawn persons

DRAWN = dict(
    num_ids=dict(train=3, val=1, test=2), images_per_id=2, captions_per_image=2,
    image_size=(32, 16), seed=3, pipeline=(),
)  # fmt: skip


def test_drawn_persons_are_written_once_and_read_back(tmp_path):
    root = tmp_path / 'deep' / 'drawn'
    train = SyntheticPedes(data_root=root, split='train', **DRAWN)
    assert counts(train) == {
        'num_classes': 3,
        'num_images': 6,
        'num_captions': 12,
        'num_swapped': 0,
    }
    written = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    test = SyntheticPedes(data_root=root, split='test', **DRAWN)
    assert test.metainfo == {'num_classes': 2, 'num_images': 4, 'num_captions': 8}
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == written
    with Image.open(test.get_data_info(0)['img_path']) as image:
        assert image.size == (16, 32)


@pytest.mark.slow
def test_an_interrupted_drawing_is_completed(tmp_path):
    SyntheticPedes(data_root=tmp_path, split='train', **DRAWN)
    (tmp_path / 'reid_raw.json').unlink()
    first, *_ = tmp_path.glob('imgs/*/*.jpg')
    expected = first.read_bytes()
    first.unlink()
    assert len(SyntheticPedes(data_root=tmp_path, split='train', **DRAWN)) == 12
    assert first.read_bytes() == expected


def test_drawn_persons_with_other_numbers_are_refused(tmp_path):
    SyntheticPedes(data_root=tmp_path, split='train', **DRAWN)
    with pytest.raises(ValueError, match='seed is 3 there and 4 here'):
        SyntheticPedes(data_root=tmp_path, split='train', **{**DRAWN, 'seed': 4})


def fingerprint(root, **changes):
    return CUHKPEDES(data_root=root, split='train', **changes).metainfo['fingerprint']


def test_the_fingerprint_is_that_of_the_annotations_wherever_they_lie(folder, tmp_path):
    root = folder()
    (tmp_path / 'elsewhere').mkdir()
    moved = shutil.copytree(root, tmp_path / 'elsewhere' / 'moved')
    assert fingerprint(root) == fingerprint(moved)
    assert fingerprint(f'{root}/') == fingerprint(root)
    assert 'fingerprint' not in CUHKPEDES(data_root=root, split='test').metainfo


def permuted_identities(records):
    people = [r['id'] for r in records]
    return [{**r, 'id': pid} for r, pid in zip(records, people[1:] + people[:1], strict=True)]


@pytest.mark.parametrize(
    'change',
    [
        permuted_identities,
        lambda records: records[::-1],
        lambda records: [{**r, 'captions': [f'{c} ' for c in r['captions']]} for r in records],
    ],
)
def test_other_identities_captions_or_order_have_another_fingerprint(folder, change):
    names = ('a.png', 'b.png', 'c.png')
    records = [record('train', n, name, f'Text {n}.') for n, name in enumerate(names)]
    before = fingerprint(folder(records))
    assert fingerprint(folder(change(records))) != before


def test_noise_and_pruning_have_another_fingerprint(folder):
    root = folder()
    ways = [{}, dict(noise_rate=1.0), dict(tagger=dict(type='RuleTagger'))]
    assert len({fingerprint(root, **way) for way in ways}) == 3
