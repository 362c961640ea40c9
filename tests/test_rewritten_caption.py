"""RDE with a rewritten version of each caption, as ICL trains it without its interaction."""

import json
import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from closeness import assert_same
from tiny_rde import golden_batch, rde_config
from torch import nn
from toy_data import write_toy_data

from sen_toolbox.datasets import CUHKPEDES
from sen_toolbox.datasets.transforms import CorruptWords, RewrittenCaption
from sen_toolbox.datasets.transforms.rewritten_caption import draw_version
from sen_toolbox.registry import HOOKS, MODELS
from sen_toolbox.text.tokenizers import CLIPTokenizer

pytestmark = pytest.mark.numeric

TOKENIZER = CLIPTokenizer(24)
PARTS = [['a man', 'a guy'], ['red coat'], ['he walks', 'he is walking', 'walking']]
RECORDS = [
    dict(file_path='a/1.jpg', captions=['one', 'two'], diversity_captions=['uno', PARTS]),
    dict(file_path='b/1.jpg', captions=['one'], diversity_captions=['eins']),
    # What other splits have is not asked for.
    dict(file_path='c/1.jpg', captions=['three']),
]


def pair_of(path: str, caption: str) -> dict:
    return dict(img_path=f'data/set/imgs/{path}', captions=[caption])


def reader(tmp_path, records=RECORDS, **options) -> RewrittenCaption:
    file = tmp_path / 'rewritten.json'
    file.write_text(json.dumps(records))
    return RewrittenCaption(tokenizer=TOKENIZER, file=file, **options)


def second_row(step: RewrittenCaption, pair: dict) -> list[int]:
    return step.transform(dict(pair))['second_tokens'].ids[0].tolist()


def row_of(text: str) -> list[int]:
    return TOKENIZER([text]).ids[0].tolist()


def test_a_caption_has_the_version_of_its_own_image(tmp_path):
    step = reader(tmp_path)
    pairs = [pair_of('a/1.jpg', 'one'), pair_of('b/1.jpg', 'one')]
    step.see_pairs(pairs)
    assert [second_row(step, pair) for pair in pairs] == [row_of('uno'), row_of('eins')]


def test_of_each_part_one_text_is_drawn_and_the_order_is_any():
    random.seed(0)
    found = Counter(draw_version(PARTS) for _ in range(3600))
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    possible = {
        ' '.join(PARTS[part][choice[part]] for part in order)
        for order in orders
        for choice in ((first, 0, last) for first in range(2) for last in range(3))
    }
    assert found.keys() == possible
    assert min(found.values()) > 60
    assert PARTS[0] == ['a man', 'a guy']


def test_the_draws_are_those_of_the_release():
    random.seed(3)
    parts = list(PARTS)
    random.shuffle(parts)
    expected = ''
    for texts in parts:
        expected += random.choice(texts) + ' '
    random.seed(3)
    assert draw_version(PARTS) == expected[:-1]


@pytest.mark.parametrize(
    ('path', 'caption'), [('a/1.jpg', 'three'), ('c/1.jpg', 'three'), ('d/1.jpg', 'one')]
)
def test_a_caption_without_a_version_is_named_with_its_image(tmp_path, path, caption):
    message = f"rewritten.json has no rewritten version of the caption '{caption}' of .*{path}"
    with pytest.raises(ValueError, match=message):
        reader(tmp_path).see_pairs([pair_of(path, caption)])


@pytest.mark.parametrize(
    ('records', 'message'),
    [
        ({}, 'holds a dict, expected a list of records'),
        ([3], 'record 0 has no file_path'),
        ([{**RECORDS[1], 'file_path': 3}], 'record 0 has no file_path'),
        ([{**RECORDS[1], 'captions': 'one'}], 'record 0 has captions or diversity_captions'),
        ([{**RECORDS[1], 'captions': [3]}], 'record 0 has captions or diversity_captions'),
        ([RECORDS[1], {**RECORDS[0], 'captions': ['one']}], 'record 1 has 1 captions and 2 div'),
        ([{**RECORDS[1], 'diversity_captions': [3]}], 'a diversity caption 3, expected a text'),
        ([{**RECORDS[1], 'diversity_captions': [[[]]]}], r'a diversity caption \[\[\]\], expected'),
        (
            [{**RECORDS[1], 'diversity_captions': [[]]}],
            r'a diversity caption \[\], expected a text',
        ),
        ([{**RECORDS[1], 'diversity_captions': [['a']]}], r'caption \[.a.\], expected a text or'),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(tmp_path, records, message):
    with pytest.raises(ValueError, match=f'rewritten.json.* {message}'):
        reader(tmp_path, records).see_pairs([])


def test_a_missing_file_is_named_with_what_to_do():
    step = RewrittenCaption(tokenizer=TOKENIZER, file='gone.json')
    with pytest.raises(FileNotFoundError, match='no file gone.json of rewritten captions: put it'):
        step.see_pairs([])


def test_it_is_for_training_alone(tmp_path):
    with pytest.raises(KeyError, match='RewrittenCaption is for the pipeline of a training split'):
        reader(tmp_path).transform(pair_of('a/1.jpg', 'one'))


def test_a_data_set_finds_the_versions_of_its_captions(tmp_path):
    root = write_toy_data(tmp_path)
    records = json.loads((root / 'reid_raw.json').read_text())
    for record in records:
        record['diversity_captions'] = [f'not {caption}' for caption in record['captions']]
    step = reader(tmp_path, records)
    dataset = CUHKPEDES(data_root=root, split='train', pipeline=[step])
    assert len(dataset) > 10
    for index in range(len(dataset)):
        sample = dataset[index]
        expected = TOKENIZER([f'not {sample["captions"][0]}']).ids
        assert (sample['second_tokens'].ids == expected).all()


def test_words_of_second_captions_are_corrupted_alone():
    results = dict(tokens=TOKENIZER(['a red coat']), second_tokens=TOKENIZER(['a blue hat'] * 9))
    before = results['tokens'].ids.copy()
    step = CorruptWords(tokenizer=TOKENIZER, rate=1.0, key='second_tokens')
    assert step.changes == {'second_tokens'}
    found = step(results)
    assert np.array_equal(found['tokens'].ids, before)
    assert not np.array_equal(found['second_tokens'].ids, TOKENIZER(['a blue hat'] * 9).ids)


def rde(**options) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(rde_config(**options)).double()


def second_rde(weight: float) -> nn.Module:
    keys = [f'model.heads.{name}.second_weight' for name in ('bge', 'tse')]
    return rde(**dict.fromkeys(keys, weight))


def batch_with_second() -> dict:
    batch = golden_batch()
    batch['images'], batch['pair_weights'] = (
        batch['images'].double(),
        batch['pair_weights'].double(),
    )
    return batch | dict(second_tokens=batch['tokens'][torch.tensor([5, 4, 3, 2, 1, 0])])


def test_the_loss_is_that_of_the_captions_plus_the_weighted_one_of_their_versions():
    batch = batch_with_second()
    found = second_rde(0.7)(mode='loss', **batch)
    own = rde()(mode='loss', **batch)
    others = rde()(mode='loss', **{**batch, 'tokens': batch['second_tokens']})
    for name in ('bge.loss', 'tse.loss'):
        assert others[name] != own[name]
        assert_same(found[name].detach(), (own[name] + 0.7 * others[name]).detach())


def test_running_statistics_see_the_images_once_and_both_captions():
    batch = batch_with_second()
    model, own = second_rde(1.0), rde()
    model(mode='loss', **batch)
    own(mode='loss', **batch)
    head, alone = model.heads['tse'], own.heads['tse']
    for name, value in alone.image_neck.named_buffers():
        assert torch.equal(dict(head.image_neck.named_buffers())[name], value), name
    own(mode='loss', **{**batch, 'tokens': batch['second_tokens']})
    for name, value in alone.text_neck.named_buffers():
        assert_same(dict(head.text_neck.named_buffers())[name].double(), value.double(), msg=name)


def test_every_parameter_receives_a_gradient_and_pairs_are_divided_by_their_own_captions():
    batch, model = batch_with_second(), second_rde(1.0)
    total, _ = model.parse_losses(model(mode='loss', **batch))
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    losses = {}
    for key, built in (('with', second_rde(1.0)), ('without', rde())):
        built.eval()
        with torch.no_grad():
            pair = built.backbone(batch['images'], batch['tokens'], built.reads)
            losses[key] = [built.heads[n].pair_losses(pair, batch) for n in ('bge', 'tse')]
    for ours, plain in zip(*losses.values(), strict=True):
        assert torch.equal(ours, plain)


def test_a_batch_without_second_captions_says_what_to_add():
    batch = batch_with_second()
    del batch['second_tokens']
    with pytest.raises(KeyError, match='put SecondCaption, RewrittenCaption or HideColours into'):
        second_rde(1.0)(mode='loss', **batch)


def fading(wrap: bool = False, **options) -> tuple:
    part = nn.Identity()
    part.weight_of_more = 2.0
    plain = nn.ModuleDict({'part': part})
    hook = HOOKS.build(dict(dict(type='FadeHook', target='part.weight_of_more'), **options))
    return hook, part, SimpleNamespace(model=nn.DataParallel(plain) if wrap else plain)


@pytest.mark.parametrize('wrap', [False, True])
def test_a_weight_fades_with_the_epochs_of_the_release(wrap):
    hook, part, runner = fading(wrap, step=0.03, least=0.1)
    hook.before_train(runner)
    for runner.epoch in (0, 1, 28, 29, 30, 59):
        hook.before_train_epoch(runner)
        # The release counts from 1.
        assert part.weight_of_more == 2 * max(0.1, 1 - 0.03 * (runner.epoch + 1))
    assert part.weight_of_more == 0.2


def test_a_number_that_is_not_there_is_named():
    hook, _, runner = fading(step=0.1, target='part.gone')
    with pytest.raises(KeyError, match="FadeHook: the model has no number 'part.gone'"):
        hook.before_train(runner)


@pytest.mark.parametrize(('option', 'value'), [('step', 0.0), ('least', 1.5)])
def test_numbers_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=option):
        fading(**{'step': 0.1, option: value})
