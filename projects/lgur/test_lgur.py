"""LGUR computes what the official code computes.

data/*.npz: github.com/ZhiyinShao-H/LGUR, commit c203cc7763ab, in float32 on a CPU with small
widths, BERT's dropout off as in its first epoch, and what its generators drew.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from parity import (
    LOSS,
    GivenPath,
    check_array,
    hit_rates,
    relative_error,
    release_average_precision,
)
from tiny import build_optimizer
from torch import nn

from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.models.losses import semi_hard_ranking
from sen_toolbox.models.necks.cross_decoder import CrossAttention
from sen_toolbox.registry import LOSSES, MODELS, PARAM_SCHEDULERS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
CONFIG = HERE / 'configs/lgur_deit_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
LAST_BLOCK = 'ImageExtract.model.blocks.2.'
NECK = 'model.heads.parts.neck'
SIZES = {
    'image_size': (64, 32),
    'context_length': 24,
    'num_classes': 11,
    'model.backbone.image.pretrained': None,
    'model.backbone.image.name': dict(
        patch_size=16, embed_dim=48, depth=3, num_heads=3, mlp_ratio=4
    ),
    'model.backbone.image.num_blocks': 2,
    'model.backbone.text.bert.pretrained': None,
    'model.backbone.text.bert.dropout': 0.0,
    'model.backbone.text.hidden_dim': 48,
    f'{NECK}.entries': 10,
    f'{NECK}.parts': 4,
    f'{NECK}.part_width': 32,
    f'{NECK}.rebuild': dict(depth=1, heads=3, head_width=8, mlp_width=56),
    f'{NECK}.decoder': dict(depth=2, heads=2, head_width=20, mlp_width=40),
}
BERT = dict(
    vocab_size=90,
    hidden_size=40,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
)
# Ours by the official name, in the order of our rankings.
TERMS = {
    'id': 'id',
    'ranking': 'rank',
    'id_dict': 'id_dict',
    'ranking_dict': 'rank_dict',
    'ranking_dict_text': 'rank_text',
    'ranking_dict_image': 'rank_image',
}
RANKINGS = [name for name in TERMS if name.startswith('ranking')]


def arrays(name):
    with np.load(HERE / 'data' / f'{name}.npz') as content:
        return dict(content)


EXPECTED, BATCH = arrays('expected'), arrays('batch')


def official_state():
    state = arrays('state') | arrays('state_image') | arrays('state_text')
    return {key: torch.from_numpy(value) for key, value in state.items()}


def batch():
    ids = torch.from_numpy(BATCH['caption'])
    tokens = Tokens(ids, ids != 0, torch.zeros(len(ids), dtype=torch.int64))
    images = torch.from_numpy(BATCH['image']).float()
    return dict(images=images, tokens=tokens, labels=torch.from_numpy(BATCH['label']))


def official_model():
    """The shipped model with the official weights."""
    config = load_config(CONFIG, SIZES)
    config.model.backbone.text.bert.config = BERT
    model = MODELS.build(config.model)
    model.load_state_dict(LAYOUT.from_official(official_state()))
    return model


def features(model):
    given = batch()
    return model.backbone(given['images'], given['tokens'], model.heads['parts'].reads)


def check(found, name, tolerance=1e-5):
    check_array(found, EXPECTED[name], tolerance, name)


@torch.no_grad()
def test_tokens_of_both_encoders_equal_the_official_ones():
    model = official_model().eval()
    pair = features(model)
    check(pair.image.tokens[:, 1:], 'eval/image_tokens')
    check(model.backbone.text.bert(batch()['tokens'], {'tokens'}).tokens, 'eval/bert')
    check(pair.text.tokens, 'eval/text_tokens')


@torch.no_grad()
def test_parts_and_the_mask_equal_the_official_ones():
    model = official_model().eval()
    pair, neck = features(model), model.heads['parts'].neck
    patches = pair.image.tokens[:, 1:]
    check(neck.mask(patches).sigmoid(), 'eval/image_mask')
    # The release computes these in evaluation, and compares the others.
    check(neck.parts(patches).transpose(0, 1), 'eval/image_part')
    check(neck.plain_text(pair).transpose(0, 1), 'eval/text_part')
    check(neck.embed_image(pair)['parts'].transpose(0, 1), 'eval/image_part_dict')
    check(neck.embed_text(pair)['parts'].transpose(0, 1), 'eval/text_part_dict')


@torch.no_grad()
def test_search_compares_what_the_official_code_compares_and_finds_as_often():
    model, given = official_model().eval(), batch()
    scores = model.embed_images(given['images']) @ model.embed_text(given['tokens']).t()
    check(scores, 'eval/similarity')
    same = given['labels'][:, None] == given['labels']
    assert hit_rates(scores.t(), same) == pytest.approx(EXPECTED['eval/cmc'].tolist())
    assert release_average_precision(scores.t(), same) == pytest.approx(EXPECTED['eval/map'].item())


def training_model():
    """The official model with the official draws of skipped branches."""
    model = official_model().train()
    block = model.backbone.image.blocks[1]
    for name, draws in zip(('drop_path1', 'drop_path2'), BATCH['droppath'], strict=True):
        setattr(block, name, GivenPath(getattr(block, name).drop_prob, [draws]))
    return model


@torch.no_grad()
def test_parts_in_training_equal_the_official_ones():
    model = training_model()
    pair, neck = features(model), model.heads['parts'].neck
    words = pair.text.tokens, pair.text.mask
    check(neck.rebuild(pair.image.tokens[:, 1:], *words), 'train/fusion_unmasked')
    check(neck.plain_image(pair).transpose(0, 1), 'train/image_part')
    check(neck.plain_text(pair).transpose(0, 1), 'train/text_part')
    check(neck.embed_image(pair)['parts'].transpose(0, 1), 'train/image_part_dict')
    check(neck.embed_text(pair)['parts'].transpose(0, 1), 'train/text_part_dict')


@pytest.fixture(scope='module')
def trained():
    """The model after a backward pass, what it logged, candidates, and what it ranked."""
    model, candidates, sides = training_model(), [], []
    own = semi_hard_ranking.semi_hard
    sides_of = (f'{name}/{side}' for name in RANKINGS for side in ('rows', 'columns'))

    def given(*arguments):
        name = next(sides_of)
        candidates.append((name, own(*arguments)))
        drawn = torch.zeros(8, 8, dtype=torch.bool)
        anchors, _, negatives = BATCH[f'triplets/{name}'].T
        drawn[anchors, negatives] = True
        return drawn

    head = model.heads['parts']
    head.ranking.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[:2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semi_hard_ranking, 'semi_hard', given)
        logged = model(**batch(), mode='loss')
    model.parse_losses(logged)[0].backward()
    return model, logged, candidates, sides


def test_candidates_and_scores_of_every_ranking_are_the_official_ones(trained):
    _, _, candidates, sides = trained
    assert len(candidates) == 8
    for name, found in candidates:
        np.testing.assert_array_equal(found, EXPECTED[f'semi_hard/{name}'], err_msg=name)
    for name, (first, second) in zip(RANKINGS, sides, strict=True):
        first, second = (nn.functional.normalize(x, dim=1) for x in (first, second))
        check(first @ second.t(), f'train/sim_{name}')


def test_each_term_of_the_loss_equals_the_official_one(trained):
    model, logged, _, sides = trained
    for official, ours in TERMS.items():
        expected = EXPECTED[f'loss/{official}'].item()
        assert logged[f'parts.{ours}'].item() == pytest.approx(expected, **LOSS), ours
    assert logged['parts.loss'].item() == pytest.approx(EXPECTED['loss/total'], rel=2e-6)
    classifier = model.heads['parts'].classifiers['parts']
    for suffix, pair in (('', sides[0]), ('_dict', sides[1])):
        for name, parts in zip(('i2t', 't2i'), pair, strict=True):
            logits = classifier(parts.view(8, 4, 32))
            hits = logits.argmax(dim=2) == batch()['labels'][:, None]
            assert hits.float().mean() == pytest.approx(EXPECTED[f'acc/{name}{suffix}'])


def official_values(values, model):
    """What has the names of our parameters, by those of the fixture's gradients."""
    found = LAYOUT.to_official(values, model)
    return {
        key.replace('W.', 'ids.', 1) if key.startswith('W.') else key.removeprefix('network.'): v
        for key, v in found.items()
    }


def test_every_gradient_equals_the_official_one(trained):
    model = trained[0]
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = official_values(gradients, model)
    names = EXPECTED['gradnorm/names'].tolist()
    assert set(names) <= set(found)
    # The way back has zeros for the block that is not used.
    assert set(found) - set(names) == {key for key in found if key.startswith(LAST_BLOCK)}
    for name, norm in zip(names, EXPECTED['gradnorm/values'], strict=True):
        # That of the mask, which a norm takes away, is rounding.
        assert found[name].double().norm().item() == pytest.approx(norm, rel=1e-4, abs=1e-6), name
    full = [key for key in EXPECTED if key.startswith('grad/')]
    assert len(full) == 13
    for key in full:
        if 'mask' not in key:
            assert relative_error(found[key.removeprefix('grad/')], EXPECTED[key]) < 1e-4, key


def test_the_first_step_moves_every_parameter_as_far_as_the_official_one(trained):
    model = trained[0]
    optimizer = build_optimizer(load_config(CONFIG).optim_wrapper, model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    moved = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    found = official_values(moved, model)
    names = EXPECTED['step1_max/names'].tolist()
    for name, largest in zip(names, EXPECTED['step1_max/values'], strict=True):
        if name in found:
            assert found[name].abs().max().item() == pytest.approx(largest, rel=1e-3), name
        else:
            assert largest == 0, name
    model.load_state_dict(LAYOUT.from_official(official_state()))


def test_rates_fall_by_ten_at_the_start_of_epochs_20_40_and_50_counted_from_one():
    config = load_config(CONFIG)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    [schedule] = [
        PARAM_SCHEDULERS.build(dict(scheduler), default_args=dict(optimizer=optimizer))
        for scheduler in config.param_scheduler
    ]
    found = []
    for _ in range(config.max_epochs):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        schedule.step()
    expected = [0.1 ** sum(epoch >= start for start in (20, 40, 50)) for epoch in range(1, 61)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize('crossed', [True, False])
def test_the_ranking_is_the_sum_of_hinges_over_drawn_negatives(crossed):
    torch.manual_seed(0)
    images, texts = torch.randn(12, 5), torch.randn(12, 5)
    labels, draws = torch.arange(12) // 2, torch.rand(12, 2)
    scores = torch.cosine_similarity(images[:, None], texts[None], dim=2)
    total = 0.0
    for side in (0, 1):
        chosen = scores if side == 0 else scores.t()
        ranked = scores if crossed else chosen
        for a in range(12):
            semi_hard = [
                n
                for n in range(12)
                if labels[n] != labels[a] and 0 < chosen[a, n] - chosen[a, a] + 0.3 < 0.3
            ]
            if semi_hard:
                n = semi_hard[int(draws[a, side] * len(semi_hard))]
                total += max(0.0, (0.3 - ranked[a, a] + ranked[a, n]).item())
    loss = LOSSES.build(dict(type='SemiHardRankingLoss', margin=0.3, crossed=crossed))
    assert loss(images, texts, labels, draws).item() == pytest.approx(total, rel=1e-5)


def test_few_queries_find_what_keys_and_values_of_all_tokens_give():
    torch.manual_seed(0)
    few = CrossAttention(12, 3, 8, few_queries=True)
    many = CrossAttention(12, 3, 8, few_queries=False)
    many.load_state_dict(few.state_dict())
    queries, tokens = torch.randn(1, 4, 12), torch.randn(5, 7, 12)
    mask = torch.arange(7) < torch.tensor([7, 3, 1, 5, 2])[:, None]
    for seen in (mask, None):
        torch.testing.assert_close(few(queries, tokens, seen), many(queries, tokens, seen))


def test_bert_is_frozen_and_its_dropout_is_on_in_training():
    bert = load_config(CONFIG).model.backbone.text.bert
    assert (bert.frozen, bert.dropout) == (True, 0.1)
    model = official_model()
    assert not any(p.requires_grad for p in model.backbone.text.bert.parameters())


def test_weights_of_a_distilled_deit_begin_as_in_the_release(tmp_path):
    model = official_model()
    encoder = model.backbone.image
    state = {key: torch.zeros_like(value) for key, value in encoder.state_dict().items()}
    for name in ('pos_embed', 'cls_token'):
        state[name] = torch.from_numpy(BATCH[f'deit/{name}']).float()
    state |= {'dist_token': torch.zeros(1, 1, 48), 'head_dist.bias': torch.zeros(5)}
    state |= {'blocks.2.norm1.bias': torch.zeros(48), 'norm.bias': torch.zeros(48)}
    torch.save(dict(model=state), tmp_path / 'deit.pth')
    encoder.pretrained = str(tmp_path / 'deit.pth')
    encoder.load_weights()
    check(encoder.pos_embed, 'load/pos_embed')
    check(encoder.cls_token, 'load/cls_token')


def test_official_names_survive_the_way_there_and_back():
    state = official_state()
    ours = LAYOUT.from_official(state)
    back = LAYOUT.to_official(ours, None)
    last = {key: back.pop(key) for key in list(back) if key.startswith(f'network.{LAST_BLOCK}')}
    unused = (*LAYOUT.UNUSED, f'network.{LAST_BLOCK}')
    used = {key: value for key, value in state.items() if not key.startswith(unused)}
    assert set(back) == set(used)
    for key, value in used.items():
        assert torch.equal(back[key], value.to(back[key].dtype)), key
    # Of the last block there are few in the fixture.
    for key in (key for key in state if key.startswith(f'network.{LAST_BLOCK}')):
        assert last[key].shape == state[key].shape, key
    assert not any(value.any() for value in last.values())
    back |= last
    again = LAYOUT.from_official(back)
    assert list(again) == list(ours)
    assert all(torch.equal(again[key], value) for key, value in ours.items())


def test_an_unknown_official_key_is_refused_by_name():
    with pytest.raises(ValueError, match=r"layout, the first are \['network.more.weight'\]"):
        LAYOUT.from_official({**official_state(), 'network.more.weight': torch.zeros(1)})


def test_words_of_another_width_than_patches_are_refused():
    config = load_config(CONFIG, {**SIZES, 'model.backbone.text.hidden_dim': 40})
    config.model.backbone.text.bert.config = BERT
    with pytest.raises(ValueError, match='patches have 48 numbers, words 40'):
        MODELS.build(config.model)
