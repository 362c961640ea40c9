"""BEAT computes what the official code computes.

data/*.npz: github.com/xmu-xiaoma666/Beat, commit 7e158a43, in float32 on a CPU with small widths,
from a given map and given words of BERT on, and the negatives that its generator drew.
"""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity import LOSS, check_array, relative_error
from tiny import build_optimizer
from tiny_methods import PIECES, replace_vocabularies
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
from sen_toolbox.registry import HEADS, MODELS, TEXT_ENCODERS
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


def arrays(name):
    with np.load(HERE / 'data' / f'{name}.npz') as content:
        return dict(content)


BATCH, EXPECTED = arrays('batch'), arrays('expected')


def official_state():
    """With the names under which the release saves its classifiers."""
    names = {'id_global.': 'WG.', 'id_local.': 'WL.', 'id_non_local.': 'WN.'}
    state = {}
    for key, value in arrays('state').items():
        before = next((name for name in names if key.startswith(name)), '')
        state[names.get(before, '') + key.removeprefix(before)] = torch.from_numpy(value)
    return state


class Model(nn.Module):
    """The LSTM and the head of the shipped config behind a given map and given words."""

    def __init__(self, case='auto'):
        super().__init__()
        head = HEADS.build({**load_config(CONFIG, SIZES).model.heads.parts, 'spec': SPEC})
        head.ranking.adaptive = case == 'auto'
        text = nn.ModuleDict(
            {'rnn': nn.LSTM(24, 48, bias=False, batch_first=True, bidirectional=True)}
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
        mask = torch.arange(states.shape[1]) < lengths[:, None]
        return TextFeatures(states[:, 0], tokens=states, mask=mask)

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
@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_every_feature_equals_the_official_one(mode):
    model = Model().train(mode == 'train')
    pair, neck = model.pair(), model.heads['parts'].neck
    image, text = neck.embed_image(pair), neck.embed_words(pair.text)
    for official, ours in LEVELS.items():
        check(image[ours].transpose(1, 2), f'{mode}/image_{official}')
        check(text[ours].transpose(1, 2), f'{mode}/text_{official}')


@torch.no_grad()
def test_states_and_every_projection_equal_the_official_ones():
    model = Model().eval()
    pair, head = model.pair(), model.heads['parts']
    check(pair.text.tokens.transpose(1, 2), 'eval/text_sequence')
    image, text = head.neck.embed_image(pair), head.neck.embed_words(pair.text)
    for official, ours in LEVELS.items():
        there, back = head.to_text[ours](image[ours]), head.to_image[ours](text[ours])
        check(there.transpose(2, 3), f'eval/image_{official}_txtspace')
        check(back.transpose(2, 3), f'eval/text_{official}_imgspace')


@torch.no_grad()
def test_the_score_of_candidates_adds_up_the_official_maxima():
    model = Model().eval()
    pair, head = model.pair(), model.heads['parts']
    images, texts = head.candidate_image(pair), head.candidate_text(pair)
    scores = head.score(texts, images.expand(8, -1, -1))
    check(scores.t(), 'eval/similarity', 3e-5)


@torch.no_grad()
@pytest.mark.parametrize('level', LEVELS)
def test_the_maxima_of_a_level_equal_the_official_ones(level):
    model = Model().eval()
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
    model = Model().eval()
    pair, head = model.pair(), model.heads['parts']
    image, text = head.embed_image(pair), head.embed_text(pair)
    np.testing.assert_allclose(image.norm(dim=1), 1, rtol=1e-6)
    expected = sum(EXPECTED[f'eval/similarity_sum_{level}'] for level in LEVELS)
    found = image @ text.t() * 3 * (1 + head.projections**2)
    check_array(found, expected, 5e-5)


def recorded_negatives(case):
    """What the official code drew, in the order of our calls."""
    triplets = zip(EXPECTED[f'{case}/triplets'], EXPECTED[f'{case}/triplet_margins'], strict=True)
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
    for name, norm in zip(official, EXPECTED[f'{case}/gradnorm/values'], strict=True):
        assert found[name].double().norm().item() == pytest.approx(norm, rel=1e-4), name
    full = [key for key in EXPECTED if key.startswith(f'{case}/grad/')]
    assert len(full) == 6
    for key in full:
        ours = found[saved(key.removeprefix(f'{case}/grad/'))]
        assert relative_error(ours.view(EXPECTED[key].shape), EXPECTED[key]) < 1e-4, key


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
    config = load_config(CONFIG)
    replace_vocabularies(dict(config))
    with torch.device('meta'):
        model = MODELS.build(config.model)
    config.optim_wrapper.optimizer.pop('fused', None)
    optimizer = build_optimizer(config.optim_wrapper, model)
    rates = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (not name.startswith('backbone.text.bert.')), name
        if parameter.requires_grad:
            expected = 1e-4 if name.startswith('backbone.image.') else 1e-3
            assert rates[id(parameter)] == pytest.approx(expected), name


def test_official_names_survive_the_way_there_and_back():
    state = official_state()
    back = LAYOUT.to_official(LAYOUT.from_official(state), None)
    assert set(back) == set(state)
    for key, value in state.items():
        assert torch.equal(back[key], value.to(back[key].dtype)), key


def test_an_unknown_official_key_is_refused_by_name():
    with pytest.raises(ValueError, match=r"layout, the first are \['network.more.weight'\]"):
        LAYOUT.from_official({**official_state(), 'network.more.weight': torch.zeros(1)})
