"""BEAT computes what the official code computes.

data/*.npz: github.com/xmu-xiaoma666/Beat, commit 7e158a43, in float32 on a CPU with small widths,
from a given map and given words of BERT on, and the negatives that its generator drew.
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
    under,
)
from part_ranking import (
    PartRankingModel,
    backward_with,
    check_tenfold_rates,
    drawn_negatives,
    shipped_rates,
)
from tiny_methods import PIECES

from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.models.features import ImageSpec, PairSpec, TextSpec
from sen_toolbox.registry import TEXT_ENCODERS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
CONFIG = HERE / 'configs/beat_r50_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
LEVELS = LAYOUT.LEVELS
# The small non-local level is half as wide, and so is what its projections pass through.
SIZES = {
    'num_classes': 9,
    'model.heads.parts.neck.width': 32,
    'model.heads.parts.neck.non_local_width': 16,
}
SPEC = PairSpec(
    None, ImageSpec(48, (96, 32), stages={'layer4': (48, 12, 4)}), TextSpec(48, 18, 100)
)


BATCH, EXPECTED = (load_arrays(HERE / 'data' / f'{name}.npz') for name in ('batch', 'expected'))


def official_state():
    """With the names under which the release saves its classifiers."""
    names = {'id_global.': 'WG.', 'id_local.': 'WL.', 'id_non_local.': 'WN.'}
    state = {}
    for key, value in load_arrays(HERE / 'data' / 'state.npz').items():
        before = next((name for name in names if key.startswith(name)), '')
        state[names.get(before, '') + key.removeprefix(before)] = torch.from_numpy(value)
    return state


def official_model(case='auto'):
    state = LAYOUT.from_official(official_state())
    return PartRankingModel(
        config=CONFIG, sizes=SIZES, spec=SPEC, given=BATCH, state=state, case=case
    )


def check(found, name, tolerance=1e-5):
    check_array(found, EXPECTED[name], tolerance, name)


@torch.no_grad()
@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_every_feature_equals_the_official_one(mode):
    model = official_model().train(mode == 'train')
    pair, neck = model.pair(), model.heads['parts'].neck
    image, text = neck.embed_image(pair), neck.embed_words(pair.text)
    for official, ours in LEVELS.items():
        check(image[ours].transpose(1, 2), f'{mode}/image_{official}')
        check(text[ours].transpose(1, 2), f'{mode}/text_{official}')


@torch.no_grad()
def test_states_and_every_projection_equal_the_official_ones():
    model = official_model().eval()
    pair, head = model.pair(), model.heads['parts']
    check(pair.text.tokens.transpose(1, 2), 'eval/text_sequence')
    image, text = head.neck.embed_image(pair), head.neck.embed_words(pair.text)
    for official, ours in LEVELS.items():
        there, back = head.to_text[ours](image[ours]), head.to_image[ours](text[ours])
        check(there.transpose(2, 3), f'eval/image_{official}_txtspace')
        check(back.transpose(2, 3), f'eval/text_{official}_imgspace')


@torch.no_grad()
def test_the_score_of_candidates_adds_up_the_official_maxima():
    model = official_model().eval()
    pair, head = model.pair(), model.heads['parts']
    images, texts = head.candidate_image(pair), head.candidate_text(pair)
    scores = head.score(texts, images.expand(8, -1, -1))
    check(scores.t(), 'eval/similarity', 3e-5)


@torch.no_grad()
@pytest.mark.parametrize('level', LEVELS)
def test_the_maxima_of_a_level_equal_the_official_ones(level):
    model = official_model().eval()
    pair, head = model.pair(), model.heads['parts']
    ours, number = LEVELS[level], list(LEVELS).index(level)
    images, texts = head._image_levels(pair)[number], head._text_levels(pair)[number]
    best = torch.maximum(
        torch.einsum('id,tmd->itm', images[:, 0], texts[:, 1:]).amax(dim=2),
        torch.einsum('imd,td->itm', images[:, 1:], texts[:, 0]).amax(dim=2),
    )
    check(best, f'eval/similarity_{level}')
    assert ours in head.level_weights


@torch.no_grad()
def test_embeddings_add_up_the_official_cosines_of_all_projections():
    model = official_model().eval()
    pair, head = model.pair(), model.heads['parts']
    image, text = head.embed_image(pair), head.embed_text(pair)
    np.testing.assert_allclose(image.norm(dim=1), 1, rtol=1e-6)
    expected = sum(EXPECTED[f'eval/similarity_sum_{level}'] for level in LEVELS)
    found = image @ text.t() * 3 * (1 + head.projections**2)
    check_array(found, expected, 5e-5)


@pytest.fixture(scope='module', params=['fixed', 'auto'])
def trained(request):
    """The model after a backward pass, its terms, the official case, and how candidates agree."""
    case = request.param
    model = official_model(case).train()
    drawn = drawn_negatives(EXPECTED[f'{case}/triplets'], EXPECTED[f'{case}/triplet_margins'])
    terms, agree = backward_with(model, drawn)
    return model, terms, case, agree


def test_the_official_negatives_are_among_our_candidates_and_no_anchor_lacks_one(trained):
    assert trained[3] == [True] * 96


def test_each_term_of_the_loss_equals_the_official_one(trained):
    _, terms, case, _ = trained
    for term, (official, ours) in itertools.product(('id', 'cr'), LEVELS.items()):
        expected = EXPECTED[f'{case}/loss/{term}_{official}']
        assert terms[f'{term}_{ours}'].item() == pytest.approx(expected, **LOSS)
    assert terms['loss'].item() == pytest.approx(EXPECTED[f'{case}/loss/total'], rel=2e-6)


def test_every_gradient_equals_the_official_one(trained):
    model, _, case, _ = trained
    gradients = {name: p.grad for name, p in model.named_parameters()}
    found = LAYOUT.to_official(gradients, model)
    names = {'id_global': 'WG', 'id_local': 'WL', 'id_non_local': 'WN'}

    def saved(name):
        first, _, rest = name.partition('.')
        return f'{names.get(first, first)}.{rest}'

    official = [saved(name) for name in EXPECTED[f'{case}/gradnorm/names'].tolist()]
    assert set(official) == set(found)
    check_norms(found, official, EXPECTED[f'{case}/gradnorm/values'])
    full = {saved(name): value for name, value in under(f'{case}/grad/', EXPECTED).items()}
    check_full_gradients(found, full, 6)


def test_three_padding_positions_are_read_like_words():
    bert = dict(
        config=dict(
            vocab_size=len(PIECES), hidden_size=16, intermediate_size=16, num_attention_heads=2,
            num_hidden_layers=1, max_position_embeddings=12),
        context_length=12, dropout=0.0)  # fmt: skip
    encoder = TEXT_ENCODERS.build(dict(type='RecurrentBERT', bert=bert, hidden_dim=8, padding=3))
    assert not encoder.spec.cuts_padding
    lengths = torch.tensor([5, 11])
    mask = torch.arange(12) < lengths[:, None]
    tokens = Tokens(torch.randint(1, 30, (2, 12)) * mask, mask, torch.zeros(2, dtype=torch.long))
    found = encoder.eval()(tokens, frozenset({'tokens'}))
    assert found.mask.sum(dim=1).tolist() == [8, 12]
    assert (found.tokens != 0).any(dim=2).sum(dim=1).tolist() == [8, 12]


def test_rates_are_those_of_the_release():
    model, rates, _ = shipped_rates(CONFIG)
    check_tenfold_rates(model, rates)


def test_official_names_survive_the_way_there_and_back_and_others_are_refused():
    check_way_back(LAYOUT, official_state())


def test_parts_that_are_not_numbered_from_0_on_are_refused():
    def parts(*numbers):
        return {f'network.conv_local.{n}.block.0.weight': torch.ones(1, 1, 1, 1) for n in numbers}

    assert (
        len(LAYOUT.from_official(parts(*map(str, range(11))))['heads.parts.neck.part.weight']) == 11
    )
    with pytest.raises(ValueError, match=r'has the parts \[0, 2\]'):
        LAYOUT.from_official(parts('0', '2'))
    for other in ('01', '{}'):
        with pytest.raises(ValueError, match='is there twice'):
            LAYOUT.from_official(parts('0', '1', other))
