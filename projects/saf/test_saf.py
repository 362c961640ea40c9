"""SAF computes what the official code computes.

data/*.npz: github.com/reallsp/SAF, commit f2b649a86df9, in float32 on a CPU with small widths and
all dropout 0. data/captions.json: what its tokenizer makes of captions by a small vocabulary.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import LOSS, check_array, relative_error
from tiny import build_optimizer

from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.models.features import PairFeatures
from sen_toolbox.registry import MODELS, PARAM_SCHEDULERS
from sen_toolbox.text.tokenizers.wordpiece import WordPieceTokenizer
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
CONFIG = HERE / 'configs/saf_vitb_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
PARTS = 4
SIZES = {
    'image_size': (96, 48),
    'num_classes': 9,
    'model.backbone.image.pretrained': None,
    'model.backbone.image.dropout': 0.0,
    'model.backbone.image.name': dict(
        patch_size=16, embed_dim=48, depth=2, num_heads=3, mlp_ratio=1.5
    ),
    'model.backbone.text.pretrained': None,
    'model.backbone.text.dropout': 0.0,
    'model.backbone.text.config': dict(
        vocab_size=110,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=100,
    ),
    'model.heads.parts.neck.parts': PARTS,
}


def arrays(name):
    with np.load(HERE / 'data' / f'{name}.npz') as content:
        return dict(content)


EXPECTED = arrays('expected')


def official_state():
    state = arrays('state') | arrays('state_image')
    return {key: torch.from_numpy(value) for key, value in state.items()}


def batch():
    given = {key: torch.from_numpy(value) for key, value in arrays('batch').items()}
    mask = given['attention_mask'].bool()
    tokens = Tokens(given['tokens'], mask, torch.zeros(len(mask), dtype=torch.int64))
    return dict(images=given['images_uint8'].float() / 64 - 2, tokens=tokens, labels=given['pids'])


def official_model():
    """The shipped model with the official weights."""
    model = MODELS.build(load_config(CONFIG, SIZES).model)
    model.load_state_dict(LAYOUT.from_official(official_state()))
    return model


def features(model) -> PairFeatures:
    given = batch()
    images = given['images'].to(next(model.parameters()))
    return model.backbone(images, given['tokens'], model.heads['parts'].reads)


def check(found, name, tolerance=1e-5):
    check_array(found, EXPECTED[name], tolerance, name)


@torch.no_grad()
def test_tokens_attention_and_parts_equal_the_official_ones():
    model = official_model().eval()
    pair, neck = features(model), model.heads['parts'].neck
    for name, given in (('image', pair.image), ('text', pair.text)):
        mask = pair.text.mask if name == 'text' else None
        check(given.tokens, f'eval/{name}_tokens')
        check(neck.attention(neck.norm(given.tokens), mask), f'eval/{name}_attention')
        check(neck.raw_parts(given.tokens, mask)[:, 1:], f'eval/{name}_parts_raw')


@torch.no_grad()
@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_whole_and_parts_equal_the_official_ones(mode):
    model = official_model().double().train(mode == 'train')
    # Statistics of few rows enlarge what single precision rounds: these official numbers are
    # 1.01e-5 of the largest away from ours in double precision.
    rounding = {'train/text': 1.1e-5}
    for name, found in zip(
        ('image', 'text'), model.heads['parts'].neck(features(model)), strict=True
    ):
        key = f'{mode}/{name}'
        check(found, key, rounding.get(key, 1e-5))


@torch.no_grad()
def test_search_adds_up_the_official_cosines_and_finds_as_often():
    model, given = official_model().eval(), batch()
    images, texts = model.embed_images(given['images']), model.embed_text(given['tokens'])
    scores = (1 + PARTS) * images @ texts.t()
    check(scores, 'eval/score_sum')
    same = given['labels'][:, None] == given['labels']
    shares = []
    for order in (scores.argsort(dim=1, descending=True), scores.t().argsort(1, descending=True)):
        hits = same.gather(1, order)
        shares += [100 * hits[:, :k].any(dim=1).float().mean().item() for k in (1, 2, 5)]
    assert shares == pytest.approx(EXPECTED['eval/topk'].tolist())


@pytest.fixture(scope='module')
def trained():
    """The model after a backward pass, what it logged, and the last accuracies."""
    model, seen = official_model().train(), []
    model.heads['parts'].classifier.register_forward_hook(lambda *given: seen.append(given[-1]))
    logged = model(**batch(), mode='loss')
    model.parse_losses(logged)[0].backward()
    return model, logged, seen[-1]


def test_each_term_of_the_loss_equals_the_official_one(trained):
    _, logged, last = trained
    terms = [f'{kind}_{part}' for kind in ('cmpm', 'cmpc') for part in range(1 + PARTS)]
    for name in [*terms, 'diversity_image', 'diversity_text']:
        expected = EXPECTED[f'loss/{name}'].item()
        assert logged[f'parts.{name}'].item() == pytest.approx(expected, **LOSS), name
    assert logged['parts.loss'].item() == pytest.approx(EXPECTED['loss/total'], rel=2e-6)
    for kind in ('cmpm', 'cmpc'):
        found = sum(logged[name] for name in logged if name.startswith(f'parts.{kind}'))
        assert found.item() == pytest.approx(EXPECTED[f'loss/{kind}'], rel=2e-6)
    for name in ('image', 'text'):
        assert last[f'{name}_acc'].item() == pytest.approx(EXPECTED[f'acc/{name}_last'])


def test_every_gradient_equals_the_official_one(trained):
    model = trained[0]
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = LAYOUT.to_official(gradients, model)
    names = EXPECTED['gradnorm/names'].tolist()
    assert set(names) == set(found)
    for name, norm in zip(names, EXPECTED['gradnorm/values'], strict=True):
        # A softmax does not see a bias of its keys, whose gradient is rounding.
        assert found[name].double().norm().item() == pytest.approx(norm, rel=1e-4, abs=2e-6), name
    full = [key for key in EXPECTED if key.startswith('grad/')]
    assert len(full) == 11
    for key in full:
        assert relative_error(found[key.removeprefix('grad/')], EXPECTED[key]) < 1e-4, key


def test_a_step_leaves_the_official_statistics_of_ten_passes():
    model = official_model().train()
    model(**batch(), mode='loss')
    found = LAYOUT.to_official(model.state_dict(), model)
    for name in ('running_mean', 'running_var', 'num_batches_tracked'):
        check(found[f'bottleneck_image.{name}'], f'after/bottleneck_image.{name}')
        # Nobody calls the other one.
        unused = official_state()[f'bottleneck_text.{name}']
        check(unused, f'after/bottleneck_text.{name}')


def rates(optimizer, model):
    """Rates and decays of the head, the image encoder and the text encoder."""
    found = {id(p): group for group in optimizer.param_groups for p in group['params']}
    kinds = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = found[id(parameter)]
            kind = name.removeprefix('backbone.').split('.')[0]
            kinds.setdefault(kind, set()).add((group['lr'], group['weight_decay']))
    return [kinds[kind].pop() for kind in ('heads', 'image', 'text')]


def test_three_steps_and_the_rates_of_all_epochs_are_the_official_ones():
    config, model = load_config(CONFIG), official_model().train()
    optimizer = build_optimizer(config.optim_wrapper, model)
    schedule = [
        PARAM_SCHEDULERS.build(dict(scheduler), default_args=dict(optimizer=optimizer))
        for scheduler in config.param_scheduler
    ]
    for epoch, official in enumerate(EXPECTED['optim/lr_by_epoch']):
        (head, image, text) = rates(optimizer, model)
        assert (head[1], image[1], text[1]) == (0, 4e-5, 0)
        np.testing.assert_allclose((head[0], image[0], text[0]), official, rtol=1e-9)
        optimizer.zero_grad()
        if epoch < 3:
            total, _ = model.parse_losses(model(**batch(), mode='loss'))
            assert total.item() == pytest.approx(EXPECTED['optim/losses'][epoch], rel=2e-5)
            total.backward()
        optimizer.step()
        if epoch == 1:
            found = LAYOUT.to_official(model.state_dict(), model)
            for key in [key for key in EXPECTED if key.startswith('step2/')]:
                check(found[key.removeprefix('step2/')], key)
        for scheduler in schedule:
            scheduler.step()
    assert config.max_epochs == len(EXPECTED['optim/lr_by_epoch'])


def test_captions_have_the_official_ids():
    given = json.loads((HERE / 'data/captions.json').read_text(encoding='utf-8'))
    tokenizer = WordPieceTokenizer(context_length=100, vocabulary=given['vocab'])
    for caption, ids in zip(given['captions'], given['tokens'], strict=True):
        row = tokenizer([caption])
        # There, a caption may hold special tokens.
        if '[SEP]' not in caption:
            assert row.ids[row.mask].tolist() == ids


def test_official_names_survive_the_way_there_and_back():
    state = official_state()
    back = LAYOUT.to_official(LAYOUT.from_official(state), None)
    used = {key: value for key, value in state.items() if not key.startswith(LAYOUT.UNUSED)}
    assert set(back) == set(used)
    for key, value in used.items():
        assert torch.equal(back[key], value.to(back[key].dtype)), key


def test_official_weights_of_another_kind_are_refused_by_name():
    with pytest.raises(ValueError, match=r"layout, the first are \['more.weight'\]"):
        LAYOUT.from_official({**official_state(), 'more.weight': torch.zeros(1)})
    state = official_state()
    key = 'image_model.transformer.encoder.layer.1.attn.key.bias'
    del state[key]
    with pytest.raises(ValueError, match=r"but not \['backbone.image.blocks.1.attn.key.bias'\]"):
        LAYOUT.from_official(state)


def test_encoders_of_two_widths_are_refused():
    sizes = {**SIZES, 'model.backbone.text.config': {'hidden_size': 24, 'num_attention_heads': 2}}
    with pytest.raises(ValueError, match='images have 48 numbers, those of captions 24'):
        MODELS.build(load_config(CONFIG, sizes).model)
