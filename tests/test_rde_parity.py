"""RDE computes what the official code computes (tests/data/rde_official.npz, see tiny_rde)."""

import numpy as np
import pytest
import torch
from parity import LOSS
from tiny import all_features, build_optimizer, layout
from tiny_rde import golden, golden_batch, golden_rde, official_state

from sen_toolbox.checkpoint.renaming import new_names
from sen_toolbox.config import load_config
from sen_toolbox.datasets.noise import swap_captions
from sen_toolbox.hooks.consensus_division import clean_pairs, likely
from sen_toolbox.registry import LOSSES

pytestmark = pytest.mark.numeric

LAYOUT = layout('rde')
LAYERS = dict(visul_emb_layer='image_neck', texual_emb_layer='text_neck')
# What get_loss of processor/processor.py passes to GaussianMixture, up to and above 40 % of noise.
FIT = dict(max_iterations=10, tolerance=1e-2, variance_floor=5e-4)
CLOSE_FIT = dict(max_iterations=100, tolerance=1e-4, variance_floor=1e-6)


def our_name(official: str) -> str:
    return new_names([official], LAYOUT.TABLE)[official]


def test_the_alignment_loss_and_its_gradients_equal_the_official_ones():
    expected = golden('loss')
    loss = LOSSES.build(dict(type='TripletAlignmentLoss', margin=0.1, temperature=0.015))
    labels, weights = (torch.from_numpy(expected[key]) for key in ('pids', 'label_hat'))
    for suffix, name in (('', 'bge'), ('_tse', 'tse')):
        image, text = (
            torch.from_numpy(expected[key + suffix]).requires_grad_() for key in ('image', 'text')
        )
        per_pair = loss.per_pair(image, text, labels).detach()
        np.testing.assert_allclose(per_pair, expected[f'per_{name}'], rtol=0, atol=2e-5)
        total = loss(image, text, labels, weights)
        assert total.item() == pytest.approx(expected[name].item(), **LOSS)
        total.backward()
        for tensor, key in ((image, 'image'), (text, 'text')):
            gradient = expected[f'{key}{suffix}_grad']
            error = np.linalg.norm(tensor.grad.numpy() - gradient) / np.linalg.norm(gradient)
            assert error < 1e-4, key


@pytest.fixture(scope='module')
def trained():
    """The model after one backward pass, and what it logged."""
    model = golden_rde()
    logged = model(mode='loss', **golden_batch())
    total, _ = model.parse_losses(logged)
    total.backward()
    return model, logged


def test_both_training_losses_equal_the_official_ones(trained):
    _, logged = trained
    expected = golden('model')
    for name in ('bge', 'tse'):
        official = expected[f'{name}_loss'].item()
        assert logged[f'{name}.loss'].item() == pytest.approx(official, **LOSS)


def test_every_gradient_norm_equals_the_official_one(trained):
    model, _ = trained
    parameters = dict(model.named_parameters())
    expected = golden('model')
    official = dict(zip(expected['grad_names'], expected['grad_norms'], strict=True))
    unused = {name for name, norm in official.items() if np.isnan(norm)}
    assert unused == {name for name in official if name.startswith(LAYOUT.UNUSED)}
    # Biases that a batch norm takes away; we have none.
    removed = {f'{layer}.mlp.layers.0.bias' for layer in LAYERS}
    assert all(official[name] < 1e-6 for name in removed)
    used = set(official) - unused - removed
    assert {our_name(name) for name in used} == set(parameters)
    for name in used:
        norm = parameters[our_name(name)].grad.norm().item()
        assert norm == pytest.approx(official[name], rel=1e-4), name


def test_selected_gradients_equal_the_official_ones_element_by_element(trained):
    model, _ = trained
    parameters = dict(model.named_parameters())
    selected = {k: v for k, v in golden('model').items() if k.startswith('grad/')}
    assert len(selected) == 7
    for key, gradient in selected.items():
        ours = parameters[our_name(key.removeprefix('grad/'))].grad.numpy()
        assert np.linalg.norm(ours - gradient) / np.linalg.norm(gradient) < 1e-4, key


def test_the_statistics_of_the_batch_norms_equal_the_official_ones(trained):
    model, _ = trained
    expected, state = golden('model'), official_state()
    for layer, neck in LAYERS.items():
        norm = getattr(model.heads['tse'], neck).norm
        official = expected[f'after/{layer}.mlp.bns.0.running_mean']
        # The bias in front of it went into the mean.
        official = official - state[f'{layer}.mlp.layers.0.bias'].numpy()
        np.testing.assert_allclose(norm.running_mean, official, rtol=1e-5, atol=1e-6)
        official = expected[f'after/{layer}.mlp.bns.0.running_var']
        np.testing.assert_allclose(norm.running_var, official, rtol=1e-5)


@torch.no_grad()
def test_attention_embeddings_and_pair_losses_of_the_evaluation_equal_the_official_ones():
    model, batch, expected = golden_rde().eval(), golden_batch(), golden('model')
    pair = all_features(model, batch)
    head = model.heads['tse']
    image = torch.nn.functional.normalize(head.embed_image(pair))
    text = torch.nn.functional.normalize(head.embed_text(pair))
    for ours, name in [
        (pair.image.attention, 'image_attention'),
        (pair.text.attention, 'text_attention'),
        (image, 'eval_image_tse'),
        (text, 'eval_text_tse'),
        (model.heads['bge'].pair_losses(pair, batch), 'eval_per_bge'),
        (head.pair_losses(pair, batch), 'eval_per_tse'),
    ]:
        np.testing.assert_allclose(ours, expected[name], rtol=0, atol=1e-5, err_msg=name)


@torch.no_grad()
def test_retrieval_scores_equal_the_official_mean_of_both_similarities():
    model, batch = golden_rde().eval(), golden_batch()
    scores = model.embed_text(batch['tokens']) @ model.embed_images(batch['images']).t()
    np.testing.assert_allclose(scores, golden('model')['eval_similarity'], rtol=0, atol=1e-5)


@pytest.mark.parametrize('case', ['bimodal', 'overlapping', 'half', 'narrow'])
@pytest.mark.parametrize('which', ['A', 'B'])
def test_losses_are_divided_as_officially(case, which):
    expected = golden('division')
    fit = CLOSE_FIT if expected[f'{case}/rate'] > 0.4 else FIT
    ours = clean_pairs(expected[f'{case}/losses_{which}'], **fit)
    official = expected[f'{case}/pred_{which}']
    assert 0 < official.sum() < len(official) == 200
    assert (ours == official).all()


@pytest.mark.parametrize('case', ['0', '1', '2'])
def test_probabilities_are_split_as_officially(case):
    expected = golden('split_prob')
    official = expected[f'{case}/pred']
    assert 0 < official.sum() < len(official)
    assert (likely(expected[f'{case}/prob']) == official).all()


def test_captions_are_swapped_as_officially():
    expected = golden('noise')
    pairs, swapped = swap_captions([dict(captions=[i]) for i in range(101)], rate=0.5, seed=4)
    assert [pair['captions'][0] for pair in pairs] == expected['captions'].tolist()
    assert swapped == (expected['real'] == 0).sum() > 40


def test_official_names_survive_the_way_there_and_back():
    state = official_state()
    there = LAYOUT.from_official(state)
    back = LAYOUT.to_official(there, golden_rde())
    assert set(back) == set(state)
    again = LAYOUT.from_official(back)
    assert all(torch.equal(again[key], value) for key, value in there.items())
    changed = {key for key in state if not torch.equal(back[key], state[key])}
    assert all(
        key.startswith(LAYOUT.UNUSED) or key.endswith(('layers.0.bias', 'bns.0.running_mean'))
        for key in changed
    )


def test_an_unknown_official_key_is_refused_by_name():
    with pytest.raises(ValueError, match=r"layout, the first are \['classifier.weight'\]"):
        LAYOUT.from_official({**official_state(), 'classifier.weight': torch.zeros(1)})


def test_rates_and_decays_are_those_of_the_release():
    # solver/build.py: 1e-5 with 4e-5; biases twice that without decay; embedding layers 1e-3.
    model = golden_rde()
    optimizer = build_optimizer(load_config('configs/rde/rde_vitb_cuhk.py').optim_wrapper, model)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        assert group['eps'] == 1e-3
        for parameter in group['params']:
            found[names[id(parameter)]] = group['lr'], group['weight_decay']
    for name, (rate, decay) in found.items():
        is_bias = name.endswith('bias')
        expected = 1e-3 if '_neck' in name else 2e-5 if is_bias else 1e-5
        assert rate == pytest.approx(expected, rel=1e-12), name
        assert decay == (0 if is_bias else 4e-5), name
    assert len(found) == len(names)
