"""The parity tests speak of the shipped configs: another value in a config fails them.

Every number that the heads and the loss weights of a config have is changed, one at a time, and
the losses that the official code gave must then be missed.
"""

import numpy as np
import pytest
import tiny
import tiny_rde
from test_tbps_parity import golden_tbps_clip, small_model

from sen_toolbox.config import load_config

pytestmark = [pytest.mark.numeric, pytest.mark.slow]

# The tolerance of the parity tests.
TOLERANCE = 2e-5
CONFIGS = {
    name: f'configs/{name}/{name}_vitb_cuhk.py' for name in ('sen', 'irra', 'rde', 'tbps_clip')
}
# What the models of the fixtures have in another size.
SIZES = {'heads.identity.num_classes', 'heads.tse.neck.width'}


def sen(**overrides):
    batch, _ = tiny.golden_batch()
    logged = tiny.golden_sen(**overrides)(**batch, mode='loss')
    expected = tiny.golden('expected')
    names = {'sdm': 'sdm', 'identity': 'id', 'triplet': 'tri', 'restoration': 'mae'}
    weights = {'sdm': 1, 'identity': 1, 'triplet': 10, 'restoration': 10}
    return logged, {
        f'{ours}.loss': weights[ours] * expected[f'raw/{name}_loss'] for ours, name in names.items()
    }


def irra(**overrides):
    model, batch = tiny.golden_irra(**overrides)
    expected = tiny.golden('expected', 'irra_tiny')
    names = {'sdm': 'sdm', 'identity': 'id', 'mlm': 'mlm'}
    return model(**batch, mode='loss'), {
        f'{ours}.loss': expected[f'ret/{name}_loss'] for ours, name in names.items()
    }


def rde(**overrides):
    logged = tiny_rde.golden_rde(**overrides)(**tiny_rde.golden_batch(), mode='loss')
    expected = tiny_rde.golden('model')
    return logged, {f'{name}.loss': expected[f'{name}_loss'] for name in ('bge', 'tse')}


def tbps_clip(**overrides):
    with np.load(tiny.DATA / 'tbps_clip.npz') as arrays:
        official = dict(arrays)
    model, batch = golden_tbps_clip(official, **overrides)
    logged = model(**batch, mode='loss')
    first_scale = small_model(**overrides).heads['contrast'].scale()
    contrast = sum(official[f'model/{name}_loss'] for name in ('nitc', 'ritc', 'citc'))
    expected = {'contrast.loss': contrast, 'self_supervision.loss': official['model/ss_loss']}
    return logged | dict(first_scale=first_scale), expected | dict(first_scale=np.array(100.0))


FIXTURES = dict(sen=sen, irra=irra, rde=rde, tbps_clip=tbps_clip)


def leaves(value, key: str) -> dict:
    """What stands at the ends of nested dicts, by dotted key."""
    if not isinstance(value, dict):
        return {key: value}
    return {k: v for name, part in value.items() for k, v in leaves(part, f'{key}.{name}').items()}


def values_of(model: dict) -> dict:
    """All settings of the heads and all loss weights of a model, without names of types."""
    found = leaves(model['heads'], 'heads') | leaves(model['loss_weights'], 'loss_weights')
    return {key: value for key, value in found.items() if not key.endswith('.type')}


def changed(value):
    """Another value of the kind, near enough to be a slip."""
    if isinstance(value, tuple | list):
        return type(value)(item - 1 for item in value)
    return value + 1 if isinstance(value, int) else 0.9 * value


def is_missed(found: dict, expected: dict) -> bool:
    return any(
        found[name].item() != pytest.approx(value.item(), abs=TOLERANCE)
        for name, value in expected.items()
    )


SHIPPED = {name: values_of(load_config(tiny.ROOT / path).model) for name, path in CONFIGS.items()}
CASES = [(name, key) for name, values in SHIPPED.items() for key in values if key not in SIZES]


@pytest.mark.parametrize('method', CONFIGS)
def test_the_losses_of_the_shipped_values_are_the_official_ones(method):
    assert not is_missed(*FIXTURES[method]())


@pytest.mark.parametrize(
    ('method', 'model'),
    [
        ('sen', tiny.sen_config),
        ('irra', tiny.irra_config),
        ('rde', tiny_rde.rde_config),
    ],
)
def test_models_of_the_parity_tests_have_the_shipped_values(method, model):
    ours = values_of(model())
    assert ours.keys() - SHIPPED[method].keys() <= SIZES
    differing = {key for key, value in SHIPPED[method].items() if ours[key] != value}
    assert differing <= SIZES


@pytest.mark.parametrize(('method', 'key'), CASES)
def test_another_value_in_the_config_misses_the_official_losses(method, key):
    other = changed(SHIPPED[method][key])
    assert other != SHIPPED[method][key]
    try:
        found, expected = FIXTURES[method](**{f'model.{key}': other})
    except (RuntimeError, ValueError):  # the official weights do not fit
        return
    assert is_missed(found, expected)
