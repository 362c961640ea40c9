"""MANet computes what the official code computes.

data/*.npz: github.com/shuanglinyan/MANet, commit 68ce69bc5954, in float32 on a CPU with small
widths, from a given map and given words of BERT on, and the negatives that its generator drew.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import (
    LOSS,
    check_array,
    check_full_gradients,
    check_norms,
    check_way_back,
    load_arrays,
    relative_error,
    under,
)
from part_ranking import (
    PartRankingModel,
    backward_with,
    check_tenfold_rates,
    drawn_negatives,
    shipped_rates,
)

from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.models.features import ImageSpec, PairSpec, TextSpec
from sen_toolbox.registry import LOSSES

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


BATCH, EXPECTED = (load_arrays(HERE / 'data' / f'{name}.npz') for name in ('batch', 'expected'))


def official_state():
    state = load_arrays(HERE / 'data' / 'state_dict.npz')
    return {key: torch.from_numpy(value) for key, value in state.items()}


def official_model(case='auto'):
    state = LAYOUT.from_official(official_state())
    return PartRankingModel(
        config=CONFIG, sizes=SIZES, spec=SPEC, given=BATCH, state=state, case=case
    )


def check(found, name, tolerance=1e-5):
    check_array(found, EXPECTED[name], tolerance, name)


@torch.no_grad()
def test_both_steps_of_suppression_and_the_states_equal_the_official_ones():
    model = official_model().eval()
    pair, neck = model.pair(), model.heads['parts'].neck
    features = pair.image.stages['layer4']
    masked = neck.mask(features.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(features)
    check(masked, 'eval/rar')
    check(neck.filtration(masked), 'eval/caf')
    check(pair.text.tokens.transpose(1, 2), 'eval/text_sequence')


@torch.no_grad()
@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_every_feature_equals_the_official_one(mode):
    model = official_model().train(mode == 'train')
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
    model = official_model().eval()
    pair, head = model.pair(), model.heads['parts']
    image, text = head.embed_image(pair), head.embed_text(pair)
    check(image @ text.t(), 'eval/similarity')
    check(image[:, :64] @ text[:, :64].t(), 'eval/similarity_global')
    check(image[:, 64:] @ text[:, 64:].t(), 'eval/similarity_local')


@pytest.fixture(scope='module', params=['fixed', 'auto'])
def trained(request):
    """The model after a backward pass, its terms, the official case, and how candidates agree."""
    case = request.param
    model = official_model(case).train()
    names = ('triplets_cr', 'triplet_margins_cr')
    drawn = drawn_negatives(*(EXPECTED[f'{case}/{name}'] for name in names))
    terms, agree = backward_with(model, drawn)
    return model, terms, case, agree


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
    names, norms = (EXPECTED[f'{case}/gradnorm/{part}'].tolist() for part in ('names', 'values'))
    assert set(names) <= set(found)
    # A bias that a norm takes away has rounding errors for a gradient.
    check_norms(found, names, norms, absolute=1e-6 * max(norms))
    check_full_gradients(found, under(f'{case}/grad/', EXPECTED), 6)


def test_a_step_leaves_the_official_statistics_of_three_passes():
    model = official_model().train()
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
    model, rates, factors = shipped_rates(CONFIG)
    check_tenfold_rates(model, rates)
    expected = [
        0.01 + 0.099 * e if e < 10 else 1 if e < 30 else 0.1 if e < 50 else 0.01 for e in range(70)
    ]
    np.testing.assert_allclose(factors, expected, rtol=1e-6)


def test_official_names_survive_the_way_there_and_back_and_others_are_refused():
    check_way_back(LAYOUT, official_state(), LAYOUT.UNUSED)
