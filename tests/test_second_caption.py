"""The second caption of a person in each training sample."""

from collections import Counter

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from toy_data import write_toy_data

from sen_toolbox.datasets import CUHKPEDES
from sen_toolbox.datasets.transforms import SecondCaption
from sen_toolbox.text.tokenizers import CLIPTokenizer

TOKENIZER = CLIPTokenizer(24)
# Person 1 has two images with two captions each, person 2 one image, person 3 one caption.
PEOPLE = {1: {'a.jpg': ['one', 'two'], 'b.jpg': ['three', 'four']}, 2: {'c.jpg': ['five', 'six']}}
PEOPLE[3] = {'d.jpg': ['seven']}
PAIRS = [
    dict(person_id=person, img_path=path, captions=[caption])
    for person, images in PEOPLE.items()
    for path, captions in images.items()
    for caption in captions
]


def drawn(pair):
    transform = SecondCaption(TOKENIZER)
    transform.see_pairs(PAIRS)
    return Counter(transform.draw(pair, pair['captions'][0]) for _ in range(600))


def test_it_is_any_caption_of_the_other_images():
    found = drawn(PAIRS[0])
    assert found.keys() == {'three', 'four'}
    assert min(found.values()) > 240


def test_a_person_with_one_image_gets_its_other_caption_and_else_the_same():
    assert drawn(PAIRS[4]).keys() == {'six'}
    assert drawn(PAIRS[6]).keys() == {'seven'}


def test_it_is_for_training_alone():
    with pytest.raises(KeyError, match='SecondCaption is for the pipeline of a training split'):
        SecondCaption(TOKENIZER).transform(dict(PAIRS[0]))


def test_a_batch_has_the_tokens_of_second_captions_of_its_persons(tmp_path):
    root = write_toy_data(tmp_path)
    pipeline = [
        dict(type='LoadImage'),
        dict(type='ResizeImage', size=(64, 32)),
        dict(type='Tokenize', tokenizer=TOKENIZER),
        dict(type='SecondCaption', tokenizer=TOKENIZER),
        dict(type='PackPair', per_caption=['second_tokens']),
    ]
    dataset = CUHKPEDES(data_root=root, split='train', pipeline=pipeline)
    dataset.set_epoch(seed=0, epoch=0)
    config = dict(
        dataset=dataset,
        batch_size=8,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='sen_toolbox.collate_pairs'),
    )
    with DefaultScope.overwrite_default_scope('sen_toolbox'):
        batch = next(iter(Runner.build_dataloader(config, seed=0)))
    captions = {}
    for index in range(len(dataset)):
        record = dataset.get_data_info(index)
        captions.setdefault(record['person_id'], []).append(record['captions'][0])
    assert len(batch['second_tokens']) == 8
    for person, first, second in zip(
        batch['person_ids'].tolist(), batch['tokens'].ids, batch['second_tokens'].ids, strict=True
    ):
        known = torch.from_numpy(TOKENIZER(captions[person]).ids)
        assert (known == first).all(dim=1).any()
        assert (known == second).all(dim=1).any()


def test_the_draws_depend_on_seed_epoch_and_index(tmp_path):
    root = write_toy_data(tmp_path)
    transform = SecondCaption(TOKENIZER)
    dataset = CUHKPEDES(data_root=root, split='train', pipeline=[transform])

    def ids(epoch):
        dataset.set_epoch(seed=0, epoch=epoch)
        samples = [dataset[index] for index in range(len(dataset))]
        return [sample['second_tokens'].ids.tolist() for sample in samples]

    assert ids(0) == ids(0)
    assert ids(0) != ids(1)
