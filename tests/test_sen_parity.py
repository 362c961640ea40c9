"""SEN computes what the official code computes (tests/data/sen_tiny.npz, see tiny.golden)."""

import numpy as np
import pytest
import torch
from parity import LOSS
from tiny import (
    all_features,
    as_tokens,
    build_optimizer,
    clip_config,
    golden,
    golden_batch,
    golden_sen,
    golden_state,
    layout,
    sen_config,
)

from sen_toolbox.checkpoint.renaming import new_names
from sen_toolbox.config import load_config
from sen_toolbox.models.losses.similarity import cosines, same_identity
from sen_toolbox.registry import MODELS

pytestmark = pytest.mark.numeric

LAYOUT = layout('sen')


@pytest.fixture(scope='module')
def expected():
    return golden('expected')


@pytest.fixture(scope='module')
def trained():
    """The model after one backward pass, and what it logged."""
    model = golden_sen()
    batch, _ = golden_batch()
    logged = model(**batch, mode='loss')
    total, _ = model.parse_losses(logged)
    total.backward()
    return model, logged, total


def names_of_ours() -> dict[str, str]:
    return new_names(golden_state(), LAYOUT.TABLE)


@pytest.mark.parametrize(
    ('ours', 'official', 'weight'),
    [
        ('sdm.loss', 'raw/sdm_loss', 1),
        ('identity.loss', 'raw/id_loss', 1),
        ('triplet.loss', 'raw/tri_loss', 10),
        ('restoration.loss', 'raw/mae_loss', 10),
    ],
)
def test_every_loss_equals_the_official_one(trained, expected, ours, official, weight):
    _, logged, _ = trained
    assert logged[ours].item() == pytest.approx(weight * expected[official].item(), **LOSS)


def test_the_objective_and_the_accuracies_equal_the_official_ones(trained, expected):
    _, logged, total = trained
    assert total.item() == pytest.approx(expected['total_loss'].item(), **LOSS)
    assert logged['identity.image_acc'].item() == expected['ret/img_acc']
    assert logged['identity.text_acc'].item() == expected['ret/txt_acc']


def test_features_equal_the_official_ones(expected):
    batch, _ = golden_batch()
    with torch.no_grad():
        pair = all_features(golden_sen(), batch)
    for ours, official in [
        (pair.image.embedding, 'i_feats'),
        (pair.text.embedding, 't_feats'),
        (pair.image.tokens[:1], 'image_feats_first'),
        (pair.text.tokens[:1], 'text_feats_first'),
    ]:
        np.testing.assert_allclose(ours.numpy(), expected[official], rtol=1e-5, atol=1e-5)


def test_hardest_negatives_are_the_official_ones(expected):
    batch, _ = golden_batch()
    with torch.no_grad():
        pair = golden_sen()(**batch)
    similarity = cosines(pair.image.embedding, pair.text.embedding)
    similarity[same_identity(batch['labels'])] = -torch.inf
    assert similarity.argmax(1).tolist() == expected['hardest_image_for_text'].tolist()
    assert similarity.argmax(0).tolist() == expected['hardest_text_for_image'].tolist()


def test_masks_are_exact_and_the_restoration_equals_the_official_one(expected):
    model = golden_sen()
    head = model.heads['restoration']
    batch, noise = golden_batch()
    with torch.no_grad():
        words = all_features(model, batch).text.tokens
        order = noise.argsort(dim=1)
        predicted = head.restore(batch['images'], words, order, model.backbone)
    rank = order.argsort(dim=1)
    assert (rank.numpy() == expected['ids_restore']).all()
    assert ((rank >= head.num_kept).numpy() == expected['mask'].astype(bool)).all()
    np.testing.assert_allclose(
        predicted[:1, ::8].numpy(), expected['pred_first'], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        predicted.double().square().sum((1, 2)).sqrt(), expected['pred_l2_per_sample'], rtol=1e-5
    )
    np.testing.assert_allclose(
        predicted.double().sum((1, 2)), expected['pred_sum_per_sample'], rtol=1e-4, atol=1e-2
    )


def test_56_patches_are_visible_and_135_scored():
    head = golden_sen().heads['restoration']
    assert head.num_kept - 1 == 56
    assert 192 - head.num_kept == 135


def test_every_gradient_norm_equals_the_official_one(trained, expected):
    model, _, _ = trained
    parameters = dict(model.named_parameters())
    ours = names_of_ours()
    official = dict(zip(expected['grad_norm_names'], expected['grad_norm'], strict=True))
    # The fixture writes nan for the modules that the release never uses.
    official = {name: norm for name, norm in official.items() if not np.isnan(norm)}
    assert {ours[name] for name in official} == set(parameters)
    for name, norm in official.items():
        assert parameters[ours[name]].grad.norm().item() == pytest.approx(norm, rel=1e-4), name


def test_selected_gradients_equal_the_official_ones_element_by_element(trained, expected):
    model, _, _ = trained
    parameters = dict(model.named_parameters())
    checked = 0
    for key, gradient in expected.items():
        if key.startswith('grad/'):
            ours = parameters[names_of_ours()[key.removeprefix('grad/')]].grad.numpy()
            error = np.linalg.norm(ours - gradient) / np.linalg.norm(gradient)
            assert error < 1e-4, key
            checked += 1
    assert checked >= 10


def test_three_optimiser_steps_equal_the_official_ones():
    model = golden_sen()
    batch, _ = golden_batch()
    optim = golden('optim')
    wrapper = load_config('configs/sen/sen_vitb_cuhk.py').optim_wrapper
    # The fixture was made with a base rate of 1e-3, a hundred times the release's.
    wrapper.optimizer.lr = 1e-3
    optimizer = build_optimizer(wrapper, model)
    base = [group['lr'] for group in optimizer.param_groups]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ours = names_of_ours()
    for step in (1, 2, 3):
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group['lr'] = lr * optim['lr_group0'][step - 1] / 1e-3
        total, _ = model.parse_losses(model(**batch, mode='loss'))
        expected_loss = optim['total_loss_before_step'][step - 1]
        assert total.item() == pytest.approx(expected_loss, rel=1e-5)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        delta = {name: (p.detach() - before[name]) for name, p in model.named_parameters()}
        norms = dict(zip(optim['names'], optim[f'delta_norm_after_step{step}'], strict=True))
        for name, norm in norms.items():
            # Rows of unused words are zero in the fixture, so they do not decay here; the
            # modules that the release never uses have no counterpart and do not move.
            if name not in ours:
                assert norm == 0
            elif name != 'base_model.token_embedding.weight':
                assert delta[ours[name]].norm().item() == pytest.approx(norm, rel=1e-4), name
        for key, value in optim.items():
            if key.startswith(f'delta_after_step{step}/'):
                name = ours[key.split('/', 1)[1]]
                error = np.linalg.norm(delta[name].numpy() - value) / np.linalg.norm(value)
                assert error < 1e-4, key


def test_official_names_survive_the_way_there_and_back():
    state = golden_state()
    model = golden_sen()
    there = LAYOUT.from_official(state)
    back = LAYOUT.to_official(there, model)
    assert set(state) < set(back)
    for key, value in state.items():
        assert torch.equal(back[key], value.float()), key
    # The dead modules of the release are there, so that its strict loading accepts the file.
    assert back['cross_attn_Image.in_proj_weight'].shape == (192, 64)
    assert back['norm_5.weight'].tolist() == [1.0] * 64


def test_an_unknown_official_key_is_refused_by_name():
    with pytest.raises(ValueError, match='fuse_head.dense.weight'):
        LAYOUT.from_official({**golden_state(), 'fuse_head.dense.weight': torch.zeros(1)})


def test_every_parameter_receives_a_gradient(trained):
    model, _, _ = trained
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == []


def test_a_non_square_grid_with_a_remainder_trains():
    backbone = clip_config(image_size=(126, 63), patch_size=14)
    model = MODELS.build(sen_config(num_classes=3, backbone=backbone))
    assert model.backbone.spec.image.grid == (9, 4)
    batch = dict(
        images=torch.randn(3, 3, 126, 63),
        tokens=as_tokens(torch.tensor([[49406, 320, 49407, 0]] * 3)),
        labels=torch.arange(3),
    )
    total, _ = model.parse_losses(model(**batch, mode='loss'))
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is not None for p in model.parameters())
