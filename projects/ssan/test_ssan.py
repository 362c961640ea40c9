"""SSAN computes what the official code computes, and its parts what their words say.

data/*.npz: github.com/zifyloo/SSAN, commit 567836932aaf, in float32 on a CPU with small widths,
dropout 0 and the negatives that its generator drew.
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
from part_ranking import drawn_negatives
from tiny import build_optimizer

from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.models.losses import compound_ranking
from sen_toolbox.models.losses.compound_ranking import semi_hard
from sen_toolbox.registry import LOSSES, MODELS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
CONFIG = HERE / 'configs/ssan_r50_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
# Ours by the official name.
NAMES = {'global': 'whole', 'local': 'local', 'non_local': 'non_local'}
LEVELS = tuple(NAMES)
KINDS = ('image', 'text', 'text_cr')
SIZES = {
    'image_size': (384, 64),
    'context_length': 24,
    'num_classes': 9,
    'tokenizer.vocab_file': None,
    'tokenizer.vocabulary': [f'word{number}' for number in range(59)],
    'model.backbone.image.pretrained': None,
    'model.backbone.image.depth': dict(
        block='bottleneck', blocks=(1, 1, 1, 1), widths=(4, 8, 16, 32)
    ),
    'model.backbone.text.word_dim': 24,
    'model.backbone.text.hidden_dim': 128,
    'model.backbone.text.input_dropout': 0.0,
    'model.heads.parts.neck.width': 48,
    'model.heads.parts.neck.non_local_width': 32,
}


def arrays(*names):
    return load_arrays(*(HERE / 'data' / f'{name}.npz' for name in names))


BATCH, EXPECTED, GRADIENTS = arrays('batch'), arrays('expected'), arrays('gradients')


def official_state():
    state = arrays('state', 'state_lstm')
    return {key: torch.from_numpy(value) for key, value in state.items()}


def tokens(suffix=''):
    ids, lengths = (torch.from_numpy(BATCH[f'{key}{suffix}']) for key in ('tokens', 'lengths'))
    return Tokens(ids, torch.arange(ids.shape[1]) < lengths[:, None], lengths - 1)


def batch():
    images = torch.from_numpy(BATCH['images_uint8']).float() / 64 - 2
    labels = torch.from_numpy(BATCH['pids'])
    return dict(images=images, tokens=tokens(), second_tokens=tokens('_cr'), labels=labels)


def draws(case, candidates):
    """Numbers (B, 4) that choose the negatives which the official code drew.

    Args:
        case: Where the triplets stand, e.g. 'fixed/global'.
        candidates: Beginning and end of the name of those among which it drew.
    """
    columns = []
    for term, side in itertools.product(('main', 'cr'), ('image', 'text')):
        found = EXPECTED[candidates.format(f'{term}/{side}')]
        column = np.full(len(found), 0.5)
        for anchor, _, negative in BATCH[f'triplets/{case}/{term}/{side}']:
            assert found[anchor, negative]
            column[anchor] = (found[anchor, :negative].sum() + 0.5) / found[anchor].sum()
        columns.append(column)
    return torch.from_numpy(np.stack(columns, axis=1)).float()


def official_model(case='auto'):
    """The shipped model with the official weights, draws and epoch."""
    model = MODELS.build(load_config(CONFIG, SIZES).model)
    model.load_state_dict(LAYOUT.from_official(official_state()))
    head = model.heads['parts']
    head.ranking.adaptive = case == 'auto'
    choices = {
        ours: draws(f'{case}/{name}', f'candidates/{case}/{name}/{{}}')
        for name, ours in NAMES.items()
    }
    head.draw_choices = lambda name, count, device: choices[name]
    return model


def levels(model):
    """The features of images, captions and second captions by level, in the official layout."""
    given, neck, reads = batch(), model.heads['parts'].neck, model.heads['parts'].reads
    found = dict(image=neck.embed_image(model.backbone(given['images'], None, reads)))
    for kind, key in (('text', 'tokens'), ('text_cr', 'second_tokens')):
        found[kind] = neck.embed_words(model.backbone.encode_text(given[key], reads))
    return {
        kind: {name: parts[ours].transpose(1, 2) for name, ours in NAMES.items()}
        for kind, parts in found.items()
    }


@torch.no_grad()
def test_maps_states_and_shares_of_words_equal_the_official_ones():
    model, given = official_model().eval(), batch()
    pair = model.backbone(given['images'], given['tokens'], model.heads['parts'].reads)
    check_array(pair.image.stages['layer4'], EXPECTED['eval/map'], 1e-5)
    check_array(pair.text.tokens.transpose(1, 2), EXPECTED['eval/lstm_global'], 1e-5)
    local = pair.text.extra['local']
    check_array(local.transpose(1, 2), EXPECTED['eval/lstm_local'], 1e-5)
    shares = model.heads['parts'].neck.word_part(local).sigmoid()
    check_array(shares.transpose(1, 2), EXPECTED['eval/word_score'], 1e-5)


@torch.no_grad()
@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_every_feature_equals_the_official_one(mode):
    found = levels(official_model().train(mode == 'train'))
    for kind, level in itertools.product(KINDS, LEVELS):
        check_array(found[kind][level], EXPECTED[f'{mode}/{kind}_{level}'], 1e-5)


@torch.no_grad()
def test_search_adds_up_the_official_cosines():
    model, given = official_model().eval(), batch()
    scores = model.embed_images(given['images']) @ model.embed_text(given['tokens']).t()
    check_array(3 * scores, EXPECTED['eval/similarity'], 3e-5)
    found = levels(model)
    for level in LEVELS:
        image, text = (
            torch.nn.functional.normalize(found[kind][level].flatten(1)) for kind in KINDS[:2]
        )
        check_array(image @ text.t(), EXPECTED[f'eval/similarity_{level}'], 1e-5)


def test_a_step_leaves_the_official_statistics_of_three_passes():
    model = official_model().train()
    model(**batch(), mode='loss')
    official = LAYOUT.to_official(model.state_dict(), model)
    after = [key for key in EXPECTED if key.startswith('after/')]
    assert len(after) == 24
    before = official_state()
    for key in after:
        name = key.replace('after/', 'network.')
        # The official code counted from 0 on.
        counted_before = before[name] if name.endswith('num_batches_tracked') else 0
        check_array(official[name] - counted_before, EXPECTED[key], 1e-5)


@pytest.fixture(scope='module', params=['fixed', 'auto'])
def trained(request):
    """The model after a backward pass, what it logged, and the official case."""
    model = official_model(request.param).train()
    logged = model(**batch(), mode='loss')
    model.parse_losses(logged)[0].backward()
    return model, logged, request.param


def test_each_term_of_the_loss_equals_the_official_one(trained):
    _, logged, case = trained
    for term, level in itertools.product(('id', 'cr'), LEVELS):
        official = EXPECTED[f'loss/{case}/{term}_{level}']
        assert logged[f'parts.{term}_{NAMES[level]}'].item() == pytest.approx(official, **LOSS)
    assert logged['parts.loss'].item() == pytest.approx(EXPECTED[f'loss/{case}/total'], rel=1e-6)


def official_gradients(model):
    """Our gradients under the official names."""
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return LAYOUT.to_official(gradients, model)


def test_every_gradient_equals_the_official_one(trained):
    model, _, case = trained
    found = official_gradients(model)
    names = EXPECTED[f'gradnorm/{case}/names'].tolist()
    assert set(names) == set(found)
    check_norms(found, names, EXPECTED[f'gradnorm/{case}/values'])
    if case == 'auto':
        check_full_gradients(found, under('grad/', GRADIENTS), 12)


def recorded_negatives():
    """What the official code drew in one step of the auto case, in the order of our calls."""
    calls = itertools.product(LEVELS, ('main', 'cr'), ('image', 'text'))
    triplets = [BATCH['triplets/auto/' + '/'.join(call)] for call in calls]
    return list(drawn_negatives(triplets, [np.ones(len(rows)) for rows in triplets]))


def test_three_steps_of_the_optimiser_are_the_official_ones(monkeypatch):
    # The official steps kept the negatives of the first, whatever the scores became.
    negatives = itertools.cycle(recorded_negatives())
    monkeypatch.setattr(compound_ranking, 'semi_hard', lambda *_: next(negatives))
    model = official_model().train()
    wrapper = load_config(CONFIG).optim_wrapper
    optimizer = build_optimizer(wrapper, model)
    for number, official in enumerate(EXPECTED['optim/losses']):
        total, _ = model.parse_losses(model(**batch(), mode='loss'))
        assert total.item() == pytest.approx(official, rel=2e-5), number
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        if number == 0:
            state = LAYOUT.to_official(model.state_dict(), model)
            for key in (key for key in GRADIENTS if key.startswith('step1/')):
                check_array(state[key.removeprefix('step1/')], GRADIENTS[key], 1e-5)


def test_the_rate_of_everything_but_the_resnet_is_tenfold():
    model = official_model()
    optimizer = build_optimizer(load_config(CONFIG).optim_wrapper, model)
    rates = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        expected = 1e-4 if name.startswith('backbone.image.') else 1e-3
        assert rates[id(parameter)] == pytest.approx(expected), name


def test_official_names_survive_the_way_there_and_back_and_others_are_refused():
    check_way_back(LAYOUT, official_state())


@pytest.mark.parametrize('case', ['fixed', 'auto', 'hard'])
def test_the_ranking_of_free_embeddings_and_its_gradients_are_the_official_ones(case):
    loss = LOSSES.build(dict(type='CompoundRankingLoss', adaptive=case == 'auto'))
    prefix = 'fn/hard/' if case == 'hard' else 'fn/'
    given = [
        torch.from_numpy(BATCH[f'{prefix}{kind}']).flatten(1).requires_grad_() for kind in KINDS
    ]
    choices = torch.full((8, 4), 0.5)  # without a candidate they do not matter
    if case != 'hard':
        choices = draws(f'fn/{case}', f'fn/{case}/candidates/{{}}')
    found = loss(*given, torch.from_numpy(BATCH['pids']), choices)
    assert found.item() == pytest.approx(EXPECTED[f'fn/{case}/loss'], **LOSS)
    found.backward()
    for kind, tensor in zip(KINDS, given, strict=True):
        official = EXPECTED[f'fn/{case}/grad_{kind}']
        assert relative_error(tensor.grad.view(official.shape), official) < 1e-4, kind


@pytest.mark.parametrize('case', ['fixed', 'auto'])
@pytest.mark.parametrize(('side', 'turn'), [('image', lambda x: x), ('text', torch.t)])
def test_the_candidates_of_every_anchor_are_the_official_ones(case, side, turn):
    found = levels(official_model(case).train())
    labels = torch.from_numpy(BATCH['pids'])
    different = labels[:, None] != labels
    for level, (term, kind) in itertools.product(LEVELS, (('main', 'text'), ('cr', 'text_cr'))):
        image, text = (
            torch.nn.functional.normalize(found[name][level].flatten(1)) for name in ('image', kind)
        )
        name = f'{case}/{level}/{term}/{side}'
        margins = torch.from_numpy(EXPECTED[f'margin/{name}'])
        kept = margins >= (0.16 if case == 'auto' else 0)
        ours = semi_hard(turn(image @ text.t()).detach(), margins, kept, different)
        assert torch.equal(ours, torch.from_numpy(EXPECTED[f'candidates/{name}'])), name
