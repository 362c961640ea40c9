"""TBPS-CLIP computes what the official code computes (tests/data/tbps_clip.npz).

The numbers come from Flame-Chasers/TBPS-CLIP ba090bc, in float32 on the CPU in one gloo process,
without dropout. Losses: ``CLIP.forward`` of model/tbps_model.py on features given to it, and
``compute_simclr_loss`` of model/loss.py. Model: ``CLIP.forward`` with towers of width 32, 2 blocks
and 2 heads, softness 0.5. Text: ``EDA.random_deletion`` of model/eda.py and ``pre_caption`` of
misc/caption_dataset.py. Schedule: ``cosine_scheduler`` of misc/build.py, 7 iterations an epoch.
"""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import LOSS
from tiny import as_tokens, build_optimizer, layout, shipped_model

from sen_toolbox.checkpoint.renaming import new_names
from sen_toolbox.config import load_config
from sen_toolbox.datasets.transforms import CleanCaption, DeleteWords
from sen_toolbox.models.features import (
    ImageFeatures,
    ImageSpec,
    PairFeatures,
    PairSpec,
    TextFeatures,
    TextSpec,
)
from sen_toolbox.registry import HEADS, LOSSES, MODELS, PARAM_SCHEDULERS
from sen_toolbox.text.tokenizers import CLIPTokenizer

pytestmark = pytest.mark.numeric

CONFIG = 'configs/tbps_clip/tbps_clip_vitb_cuhk.py'
LAYOUT = layout('tbps_clip')
EPOCH_LENGTH = 7


@pytest.fixture(scope='module')
def official():
    with np.load(Path(__file__).parent / 'data' / 'tbps_clip.npz') as arrays:
        return {key: arrays[key] for key in arrays}


def assert_close(ours, expected, tolerance=1e-4):
    """Relative to the norm; a gradient that is rounding noise must be noise here too."""
    error = np.linalg.norm(np.asarray(ours) - expected)
    assert error < tolerance * np.linalg.norm(expected) + 1e-6


def feature(official, name):
    return torch.tensor(official[f'losses/{name}'], requires_grad=name != 'pids')


class GivenView:
    """A backbone for which every view has the features it was given."""

    def __init__(self, features):
        self.features = features

    def encode_image(self, images):
        return ImageFeatures(self.features)


LOSS_CONFIGS = dict(
    nitc=dict(type='NITCLoss'), ritc=dict(type='RITCLoss'), citc=dict(type='CITCLoss')
)


# Cosines scaled by 20 without and with soft targets, and a learnt scale beyond its limit.
@pytest.mark.parametrize('case', [0, 1, 2])
@pytest.mark.parametrize('name', ['nitc', 'ritc', 'citc', 'mvs'])
def test_a_loss_and_its_gradients_equal_the_official_ones(official, case, name):
    logit_scale, softness = official[f'losses/{case}/setting']
    key = 'nitc' if name == 'mvs' else name
    head = HEADS.build(
        dict(
            type='ScaledMatchingHead',
            losses={key: LOSS_CONFIGS[key]},
            weights={key: 1.0},
            views={key: 0} if name == 'mvs' else None,
            spec=PairSpec(8, ImageSpec(8, (8, 8)), TextSpec(8, 10, 5)),
        )
    )
    if key == 'nitc':
        head.losses[key].softness = softness
    head.logit_scale.data.fill_(logit_scale)
    image, text, view, labels = (feature(official, n) for n in ('image', 'text', 'view', 'pids'))
    batch = dict(labels=labels, views=torch.zeros(7, 1, 3, 8, 8))
    pair = PairFeatures(ImageFeatures(image), TextFeatures(text))
    result = head(pair, batch, GivenView(view))
    result['loss'].backward()
    expected = official[f'losses/{case}/{name}']
    assert result['loss'].item() == pytest.approx(expected.item(), **LOSS)
    assert_close(image.grad, official[f'losses/{case}/{name}/grad_image'])
    assert_close(text.grad, official[f'losses/{case}/{name}/grad_text'])
    if name == 'mvs':
        assert_close(view.grad, official[f'losses/{case}/{name}/grad_view'])
    if name == 'citc':  # in the release rounding noise: the scale cancels
        assert head.logit_scale.grad is None
        assert abs(official[f'losses/{case}/{name}/grad_scale']) < 1e-6
    else:
        assert_close(head.logit_scale.grad, official[f'losses/{case}/{name}/grad_scale'])


def test_the_self_supervised_loss_and_its_gradients_equal_the_official_ones(official):
    first, second = feature(official, 'image'), feature(official, 'view')
    loss = LOSSES.build(dict(type='SimCLRLoss', temperature=0.1))(first, second)
    loss.backward()
    assert loss.item() == pytest.approx(official['losses/ss'].item(), **LOSS)
    assert_close(first.grad, official['losses/ss/grad_first'])
    assert_close(second.grad, official['losses/ss/grad_second'])


def official_state(official):
    """The weights and then the images of the fixture, drawn anew from its seed."""
    rng = np.random.RandomState(0)
    state = {}
    for name, shape in zip(official['model/names'], official['model/shapes'], strict=True):
        value = 0.2 * rng.standard_normal(tuple(json.loads(str(shape))))
        if '.ln_' in name and name.endswith('weight'):
            value += 1
        if name == 'logit_scale':
            value = np.array(4.7)  # e^4.7 = 110 is beyond the limit
        state[str(name)] = torch.tensor(np.asarray(value, dtype=np.float32))
    return state, torch.from_numpy(rng.standard_normal((4, 5, 3, 32, 16)).astype(np.float32))


def small_model(**overrides):
    """The config's model on towers of width 32, without dropout."""
    arch = dict(
        embed_dim=16,
        quick_gelu=True,
        vision_cfg=dict(layers=2, width=32, head_width=16, patch_size=8),
        text_cfg=dict(layers=2, width=32, heads=2, context_length=77, vocab_size=49408),
    )
    sizes = {
        'clip_arch': arch,
        'image_size': (32, 16),
        'model.backbone.text.attention_dropout': 0.0,
    }
    return MODELS.build(shipped_model(CONFIG, **sizes, **overrides))


def golden_tbps_clip(official, **overrides):
    """The model with the official weights, and the official batch."""
    model = small_model(**overrides).train()
    state, images = official_state(official)
    model.load_state_dict(LAYOUT.from_official(state))
    batch = dict(
        images=images[0],
        views=images[1:].transpose(0, 1),
        tokens=as_tokens(torch.from_numpy(official['model/tokens']).long()),
        labels=torch.from_numpy(official['model/pids']),
    )
    return model, batch


@pytest.fixture(scope='module')
def trained(official):
    """The model after a backward pass, and what it logged."""
    model, batch = golden_tbps_clip(official)
    logged = model(**batch, mode='loss')
    total, _ = model.parse_losses(logged)
    total.backward()
    with torch.no_grad():
        pair = model(**batch)
    return model, logged, total, pair


def test_every_loss_of_the_model_equals_the_official_one(official, trained):
    _, logged, total, _ = trained
    # The release weights its losses 1, 1, 0.1 and 0.4.
    for ours, value in [
        ('nitc', logged['contrast.nitc']),
        ('ritc', logged['contrast.ritc']),
        ('citc', 0.1 * logged['contrast.citc']),
        ('ss', logged['self_supervision.loss']),
    ]:
        assert value.item() == pytest.approx(official[f'model/{ours}_loss'].item(), **LOSS)
    expected = sum(official[f'model/{name}_loss'] for name in ('nitc', 'ritc', 'citc', 'ss'))
    assert total.item() == pytest.approx(expected.item(), **LOSS)
    assert logged['contrast.scale'].item() == pytest.approx(100, abs=1e-4)


def test_the_scale_starts_where_the_pretraining_of_clip_ended():
    # The release takes it from OpenAI's ViT-B/16, whose logit_scale is the logarithm of 100.
    assert small_model().heads['contrast'].scale().item() == pytest.approx(100, rel=1e-6)


def test_features_of_the_model_equal_the_official_ones(official, trained):
    _, _, _, pair = trained
    for ours, name in ((pair.image, 'image'), (pair.text, 'text')):
        np.testing.assert_allclose(ours.embedding, official[f'model/{name}'], rtol=1e-5, atol=1e-5)


def test_every_gradient_of_the_model_equals_the_official_one(official, trained):
    model, *_ = trained
    parameters = dict(model.named_parameters())
    names = new_names(official['model/names'].tolist(), LAYOUT.TABLE)
    assert set(names.values()) == set(parameters)
    norms = dict(zip(names, official['model/grad_norm'], strict=True))
    # conv1 is frozen in the release; here its rate is 0.
    assert [name for name, norm in norms.items() if np.isnan(norm)] == ['visual.conv1.weight']
    for name, norm in norms.items():
        if not np.isnan(norm):
            assert parameters[names[name]].grad.norm().item() == pytest.approx(norm, rel=1e-4), name
    elementwise = [key for key in official if key.startswith('model/grad/')]
    assert len(elementwise) == 6
    for key in elementwise:
        name = names[key.removeprefix('model/grad/')]
        assert_close(parameters[name].grad, official[key])


def test_an_unknown_official_key_is_refused_by_name():
    with pytest.raises(ValueError, match='mlm_head.fc.weight'):
        LAYOUT.from_official({'mlm_head.fc.weight': torch.zeros(1)})


def test_tokens_of_cleaned_captions_equal_the_official_ones(official):
    results = CleanCaption()({'captions': official['model/captions'].tolist()})
    tokens = CLIPTokenizer()(results['captions'])
    np.testing.assert_array_equal(tokens.ids, official['model/tokens'])


def test_captions_are_cleaned_as_the_release_does(official):
    cleaned = CleanCaption()({'captions': official['text/raw'].tolist()})['captions']
    assert cleaned == official['text/clean'].tolist()


def test_a_seed_deletes_the_words_that_it_deletes_in_the_release(official):
    shorter = 0
    for caption, seed, prob, expected in zip(
        *(official[f'text/{key}'].tolist() for key in ('captions', 'seeds', 'probs', 'deleted')),
        strict=True,
    ):
        random.seed(seed)
        assert DeleteWords(prob=prob)({'captions': [caption]})['captions'] == [expected]
        shorter += expected != caption
    assert shorter > 20


def test_rates_and_decay_of_every_parameter_are_the_official_ones(official):
    config = load_config(CONFIG)
    model = small_model()
    optimizer = build_optimizer(config.optim_wrapper, model)
    decay, groups = {}, {}
    for group in optimizer.param_groups:
        for parameter in group['params']:
            decay[parameter], groups[parameter] = group['weight_decay'], group
    conv1 = groups[model.backbone.image.conv1.weight]
    for name, parameter in model.named_parameters():
        # The rule of build_optimizer in misc/build.py.
        exempt = parameter.ndim < 2 or any(part in name for part in ('bias', 'ln', 'bn'))
        assert decay[parameter] == (0 if exempt else 0.02), name
        assert (groups[parameter] is conv1) == ('conv1' in name)
    schedulers = []
    for scheduler in config.param_scheduler:
        scheduler = dict(scheduler)
        del scheduler['convert_to_iter_based']
        builder = PARAM_SCHEDULERS.get(scheduler.pop('type')).build_iter_from_epoch
        schedulers.append(builder(optimizer=optimizer, epoch_length=EPOCH_LENGTH, **scheduler))
    for expected in official['schedule/lr']:
        for group in optimizer.param_groups:
            rate = 0 if group is conv1 else expected
            assert group['lr'] == pytest.approx(rate, rel=1e-12)
        for scheduler in schedulers:
            scheduler.step()
