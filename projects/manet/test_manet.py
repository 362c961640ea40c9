"""MANet computes what the official code computes.

data/*.npz: github.com/shuanglinyan/MANet, commit 68ce69bc5954, in float32 on a CPU with small
widths, from a given map and given words of BERT on, and the negatives that its generator drew.
"""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity import LOSS, check_array, relative_error
from tiny import build_optimizer
from tiny_methods import replace_vocabularies
from torch import nn

from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.models.features import (
    ImageFeatures,
    ImageSpec,
    PairFeatures,
    PairSpec,
    TextFeatures,
    TextSpec,
)
from sen_toolbox.models.losses import compound_ranking
from sen_toolbox.models.text_encoders.lstm import recurrent_states
from sen_toolbox.registry import HEADS, LOSSES, MODELS, PARAM_SCHEDULERS

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
CONFIG = HERE / 'configs/manet_r50_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
# Ours by the official name.
NAMES = {'global': 'whole', 'local': 'local'}
SIZES = {
    'num_classes': 9,
    'model.heads.parts.neck.part_width': 24,
    'model.heads.parts.neck.narrow': 16,
    'model.heads.parts.neck.relation': 4,
    'model.heads.parts.neck.squeezed': 8,
}
SPEC = PairSpec(
    64,
    ImageSpec(64, (96, 64), stages={'layer4': (64, 6, 4)}),
    TextSpec(64, 100, 18, cuts_padding=False),
)


def arrays(name):
    with np.load(HERE / 'data' / f'{name}.npz') as content:
        return dict(content)


BATCH, EXPECTED = arrays('batch'), arrays('expected')


def official_state():
    return {key: torch.from_numpy(value) for key, value in arrays('state_dict').items()}


class Model(nn.Module):
    """The LSTM and the head of the shipped config behind a given map and given words."""

    def __init__(self, case='auto'):
        super().__init__()
        head = HEADS.build({**load_config(CONFIG, SIZES).model.heads.parts, 'spec': SPEC})
        head.ranking.adaptive = case == 'auto'
        text = nn.ModuleDict(
            {'rnn': nn.LSTM(24, 64, bias=False, batch_first=True, bidirectional=True)}
        )
        self.backbone = nn.ModuleDict({'text': text})
        self.heads = nn.ModuleDict({'parts': head})
        self.load_state_dict(LAYOUT.from_official(official_state()))
        self.given = {key: torch.from_numpy(value) for key, value in BATCH.items()}

    def encode_text(self, suffix, reads=frozenset()):
        lengths = self.given[f'lengths{suffix}']
        words = self.given[f'words{suffix}'].float()
        rnn = self.backbone['text']['rnn']
        states = recurrent_states(rnn, words, lengths, average_directions=True)
        return TextFeatures(states[:, 0], tokens=states)

    def pair(self):
        stages = {'layer4': self.given['image_map'].float()}
        return PairFeatures(ImageFeatures(torch.zeros(8), stages=stages), self.encode_text(''))

    def forward(self):
        batch = dict(labels=self.given['pids'], second_tokens='_cr')
        encode = SimpleNamespace(encode_text=self.encode_text)
        return self.heads['parts'](self.pair(), batch, encode)


def check(found, name, tolerance=1e-5):
    check_array(found, EXPECTED[name], tolerance, name)


@torch.no_grad()
def test_both_steps_of_suppression_and_the_states_equal_the_official_ones():
    model = Model().eval()
    pair, neck = model.pair(), model.heads['parts'].neck
    features = pair.image.stages['layer4']
    masked = neck.mask(features.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(features)
    check(masked, 'eval/rar')
    check(neck.filtration(masked), 'eval/caf')
    check(pair.text.tokens.transpose(1, 2), 'eval/text_sequence')


@torch.no_grad()
@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_every_feature_equals_the_official_one(mode):
    model = Model().train(mode == 'train')
    pair, neck = model.pair(), model.heads['parts'].neck
    image, text = neck.embed_image(pair), neck.embed_words(pair.text)
    for official, ours in NAMES.items():
        check(image[ours], f'{mode}/image_{official}')
        check(text[ours], f'{mode}/text_{official}')
    if mode == 'train':
        check(image['before'][:, None], 'train/image_pre')
        check(image['after'][:, None], 'train/image_aft')


@torch.no_grad()
def test_search_adds_up_the_official_cosines():
    model = Model().eval()
    pair, head = model.pair(), model.heads['parts']
    image, text = head.embed_image(pair), head.embed_text(pair)
    check(image @ text.t(), 'eval/similarity')
    check(image[:, :64] @ text[:, :64].t(), 'eval/similarity_global')
    check(image[:, 64:] @ text[:, 64:].t(), 'eval/similarity_local')


def recorded_negatives(case):
    """What the official code drew, in the order of our calls."""
    triplets = zip(
        EXPECTED[f'{case}/triplets_cr'], EXPECTED[f'{case}/triplet_margins_cr'], strict=True
    )
    for rows, margins in triplets:
        found = torch.zeros(8, 8, dtype=torch.bool)
        anchors, _, negatives = rows[margins > 0].T
        found[anchors, negatives] = True
        yield found


@pytest.fixture(scope='module', params=['fixed', 'auto'])
def trained(request):
    """The model after a backward pass, its terms, the official case, and how candidates agree."""
    model, agree = Model(request.param).train(), []
    recorded, own = recorded_negatives(request.param), compound_ranking.semi_hard

    def given(*arguments):
        drawn = next(recorded)
        found = own(*arguments)
        agree.append(bool((found.any(1) == drawn.any(1)).all() and (found | ~drawn).all()))
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compound_ranking, 'semi_hard', given)
        terms = model()
    terms['loss'].backward()
    return model, terms, request.param, agree


def test_the_official_negatives_are_among_our_candidates_and_no_anchor_lacks_one(trained):
    assert trained[3] == [True] * 8


def test_each_term_of_the_loss_equals_the_official_one(trained):
    _, terms, case, _ = trained
    for term, (official, ours) in itertools.product(('id', 'cr'), NAMES.items()):
        expected = EXPECTED[f'{case}/loss/{term}_{official}']
        assert terms[f'{term}_{ours}'].item() == pytest.approx(expected, **LOSS)
    assert terms['kept'].item() == pytest.approx(EXPECTED[f'{case}/loss/rec'], **LOSS)
    assert terms['loss'].item() == pytest.approx(EXPECTED[f'{case}/loss/total'], rel=2e-6)


def test_every_gradient_equals_the_official_one(trained):
    model, _, case, _ = trained
    gradients = {name: p.grad for name, p in model.named_parameters()}
    found = LAYOUT.to_official(gradients, model)
    names = EXPECTED[f'{case}/gradnorm/names'].tolist()
    norms = dict(zip(names, EXPECTED[f'{case}/gradnorm/values'], strict=True))
    scale = max(norms.values())
    assert set(names) - set(found) == set()
    for name, norm in norms.items():
        # A bias that a norm takes away has rounding errors for a gradient.
        found_norm = found[name].double().norm().item()
        assert found_norm == pytest.approx(norm, rel=1e-4, abs=1e-6 * scale), name
    full = [key for key in EXPECTED if key.startswith(f'{case}/grad/')]
    assert len(full) == 6
    for key in full:
        ours = found[key.removeprefix(f'{case}/grad/')]
        assert relative_error(ours.view(EXPECTED[key].shape), EXPECTED[key]) < 1e-4, key


def test_a_step_leaves_the_official_statistics_of_three_passes():
    model = Model().train()
    model()
    found = LAYOUT.to_official(model.state_dict(), model)
    after = [key for key in EXPECTED if key.startswith('after/')]
    for key in after:
        name = key.replace('after/', 'network.')
        if not name.startswith(LAYOUT.UNUSED):
            check(found[name], key)
        else:
            np.testing.assert_array_equal(EXPECTED[key], official_state()[name].float())


def test_the_ranking_against_the_hardest_is_the_official_one():
    a, b = (
        torch.from_numpy(BATCH[f'rec_{name}']).float().flatten(1).requires_grad_() for name in 'ab'
    )
    loss = LOSSES.build(dict(type='HardestRankingLoss', margin=0.2))
    found = loss(a, b, torch.from_numpy(BATCH['pids']))
    assert found.item() == pytest.approx(EXPECTED['rec_alone/loss'], **LOSS)
    found.backward()
    for tensor, name in ((a, 'a'), (b, 'b')):
        official = EXPECTED[f'rec_alone/grad_{name}']
        assert relative_error(tensor.grad.view(official.shape), official) < 1e-4


def test_rates_rise_over_ten_epochs_and_fall_twice():
    config = load_config(CONFIG)
    replace_vocabularies(dict(config))
    with torch.device('meta'):
        model = MODELS.build(config.model)
    config.optim_wrapper.optimizer.pop('fused')
    optimizer = build_optimizer(config.optim_wrapper, model)
    rates = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            expected = 1e-4 if name.startswith('backbone.image.') else 1e-3
            assert rates[id(parameter)] == pytest.approx(expected), name
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        f'backbone.text.bert.{name}' for name, _ in model.backbone.text.bert.named_parameters()
    }
    schedule = [
        PARAM_SCHEDULERS.build(dict(scheduler), default_args=dict(optimizer=optimizer))
        for scheduler in config.param_scheduler
    ]
    factors = []
    for _ in range(config.max_epochs):
        factors.append(max(group['lr'] for group in optimizer.param_groups) / 1e-3)
        for scheduler in schedule:
            scheduler.step()
    expected = [
        0.01 + 0.099 * e if e < 10 else 1 if e < 30 else 0.1 if e < 50 else 0.01 for e in range(70)
    ]
    np.testing.assert_allclose(factors, expected, rtol=1e-6)


def test_official_names_survive_the_way_there_and_back():
    state = official_state()
    back = LAYOUT.to_official(LAYOUT.from_official(state), None)
    used = {key: value for key, value in state.items() if not key.startswith(LAYOUT.UNUSED)}
    assert set(back) == set(used)
    for key, value in used.items():
        assert torch.equal(back[key], value.to(back[key].dtype)), key


def test_an_unknown_official_key_is_refused_by_name():
    with pytest.raises(ValueError, match=r"layout, the first are \['network.more.weight'\]"):
        LAYOUT.from_official({**official_state(), 'network.more.weight': torch.zeros(1)})
