"""Overrides: what exists or a signature has is set, in any order; all else is refused by name."""

import inspect

import pytest
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from test_configs import CONFIGS, SEN, child, load
from torch import nn
from toy_data import ROOT

from sen_toolbox import overrides
from sen_toolbox.config import load_config
from sen_toolbox.registry import HEADS

CLIP = 'configs/clip/clip_vitb_cuhk.py'
HEAD = 'HeadOfThisTest'


@HEADS.register_module()
class HeadOfThisTest(nn.Module):
    def __init__(self, *, sharpness: float = 1.0, inner: dict | None = None) -> None:
        super().__init__()


def get(config, dotted):
    for part in dotted.split('.'):
        config = config[int(part) if isinstance(config, list | tuple) else part]
    return config


def leaves(value, place=''):
    """Every value that is no dict or list, by its dotted key."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {place: value}
    return {k: v for key, item in items for k, v in leaves(item, f'{place}.{key}').items()}


def typed_dicts(value, place=''):
    """Every dict with a type, by its dotted key."""
    if isinstance(value, dict):
        if isinstance(value.get('type'), str):
            yield place.removeprefix('.'), value
        for key, item in value.items():
            yield from typed_dicts(item, f'{place}.{key}')
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from typed_dicts(item, f'{place}.{index}')


@pytest.mark.parametrize('path', CONFIGS)
def test_every_value_of_a_config_can_be_overridden_by_itself(path):
    config = load_config(ROOT / path)
    found = {key[1:]: value for key, value in leaves(dict(config)).items() if key[1] != '_'}
    assert len(found) > 80
    assert load_config(ROOT / path, found).to_dict() == config.to_dict()


def test_what_a_hook_hands_on_to_a_class_that_it_names_is_a_key_of_it():
    tiny = ROOT / 'configs/sen/sen_tiny_synthetic.py'
    changed = load_config(tiny, {'default_hooks.ema.update_buffers': True})
    assert changed.default_hooks.ema.update_buffers
    with pytest.raises(KeyError, match='did you mean update_buffers'):
        load_config(tiny, {'default_hooks.ema.update_bufers': True})


@pytest.mark.parametrize('path', CONFIGS)
def test_a_config_gives_no_key_that_the_signature_of_its_type_lacks(path):
    # MMEngine takes the latter two out before it builds an optimiser's wrapper.
    extra = {'type', 'constructor', 'paramwise_cfg'}
    for place, found in typed_dicts(dict(load(path))):
        # torchvision's operations are in no registry; underscores mark what is used elsewhere.
        if '.ops.' not in place and not place.startswith('_'):
            known = overrides.parameters_at(place, found['type']) | extra
            assert found.keys() <= known, place


@pytest.mark.parametrize(
    ('key', 'value', 'takes_it'),
    [
        ('randomness.deterministic', True, Runner.set_randomness),
        ('default_hooks.checkpoint.by_epoch', False, CheckpointHook),
        ('optim_wrapper.clip_grad', dict(max_norm=1.0), OptimWrapper),
        ('optim_wrapper.accumulative_counts', 2, OptimWrapper),
    ],
)
def test_a_parameter_that_the_config_leaves_out_is_set(key, value, takes_it):
    assert key.split('.')[-1] in inspect.signature(takes_it).parameters
    with pytest.raises(KeyError):
        get(load(SEN), key)
    assert get(load(SEN, {key: value}), key) == value


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('env_cfg.resource_limit', 9),
        ('env_cfg.dist_cfg.timeout', 9),
        ('env_cfg.mp_cfg.mp_start_method', 'spawn'),
        ('val_cfg.fp16', True),
        ('log_processor.window_size', 9),
        ('train_dataloader.drop_last', True),
        ('train_dataloader.sampler.vary_group_size', False),
        ('train_dataloader.dataset.noise_rate', 0.5),
        ('param_scheduler.0.convert_to_iter_based', True),
        ('default_hooks.logger.priority', 'LOW'),
        ('optim_wrapper.optimizer.amsgrad', True),
        ('optim_wrapper.clip_grad.max_norm', 1.0),
        ('optim_wrapper.clip_grad.type', 'value'),
        ('experiment_name', 'mine'),
    ],
)
def test_signatures_of_mmengine_torch_and_the_toolbox_are_known(key, value):
    assert get(load(SEN, {key: value}), key) == value


def test_a_part_that_the_config_leaves_out_starts_with_its_type(tmp_path):
    config = load(CLIP, {'train_dataloader.dataset.tagger.type': 'RuleTagger'})
    assert config.train_dataloader.dataset.tagger == dict(type='RuleTagger')
    path = child(tmp_path, "model = dict(heads=dict(mine=dict(type='HeadOfThisTest')))")
    inner = {'model.heads.mine.inner.sharpness': 3.0, 'model.heads.mine.inner.type': HEAD}
    config = load_config(path, inner)
    assert config.model.heads.mine.inner == dict(type=HEAD, sharpness=3.0)
    with pytest.raises(KeyError, match=r"unknown key 'sharpness'; known are \['type'\]"):
        load_config(path, {'model.heads.mine.inner.sharpness': 3.0})


def test_the_order_of_overrides_does_not_matter():
    given = {
        'optim_wrapper.dtype': 'bfloat16',
        'optim_wrapper.clip_grad.norm_type': 1,
        'optim_wrapper.clip_grad': dict(max_norm=2),
        'optim_wrapper.type': 'AutocastOptimWrapper',
    }
    config = load(SEN, given)
    assert config.to_dict() == load(SEN, dict(reversed(given.items()))).to_dict()
    assert config.optim_wrapper.clip_grad == dict(max_norm=2, norm_type=1)
    with pytest.raises(KeyError, match="unknown key 'dtype'"):
        load(SEN, {'optim_wrapper.dtype': 'bfloat16'})


@pytest.mark.parametrize('kind', ['HeadOfThisTest', 'sen_toolbox.HeadOfThisTest', '$kind'])
def test_the_signature_of_a_registered_part_is_looked_up_by_its_type(tmp_path, kind):
    text = "kind = 'HeadOfThisTest'\n_use = '$kind'\n"
    path = child(tmp_path, f'{text}model = dict(heads=dict(mine=dict(type={kind!r})))')
    config = load_config(path, {'model.heads.mine.sharpness': 2.0})
    assert config.model.heads.mine.sharpness == 2.0
    assert 'sharpness' not in config.model.heads.sdm
    with pytest.raises(
        KeyError,
        match=r"override 'model.heads.mine.sharpnes': unknown key 'sharpnes'; did you mean "
        r"sharpness\? known are \['inner', 'sharpness', 'type'\]",
    ):
        load_config(path, {'model.heads.mine.sharpnes': 2.0})


def test_modules_of_custom_imports_are_registered_before_the_look_up():
    epsilon = 'model.heads.cmpm.loss.epsilon'
    config = load('projects/cmpm/configs/cmpm_r50_cuhk.py', {epsilon: 0.5})
    assert config.model.heads.cmpm.loss.epsilon == 0.5


def test_only_existing_keys_of_an_unknown_type_can_be_overridden(tmp_path):
    path = child(tmp_path, "model = dict(heads=dict(mine=dict(type='elsewhere.Head', size=3)))")
    assert load_config(path, {'model.heads.mine.size': 4}).model.heads.mine.size == 4
    with pytest.raises(KeyError, match=r"'width'; known are \['size', 'type'\]"):
        load_config(path, {'model.heads.mine.width': 4})


@pytest.mark.parametrize('key', ['batch_size', 'train_dataloader.batch_size'])
def test_a_text_is_refused_where_a_number_stands(key):
    config = ROOT / 'configs/sen/sen_tiny_synthetic.py'
    with pytest.raises(ValueError, match=f"'{key}': it takes a number, such as 64, got 'eight'"):
        load_config(config, {key: 'eight'})


def test_parameter_names_follow_the_keyword_arguments_of_a_class():
    class Base:
        def __init__(self, first, *rest, second=2):
            pass

    class Unreached(Base):
        def __init__(self, unreached):
            pass

    class Middle:
        def __init__(self, third, **kwargs):
            pass

    class Without(Middle):
        pass

    class Last(Without, Base):
        def __init__(self, fourth, /, fifth, **kwargs):
            pass

    class Closed(Unreached):
        pass

    def function(sixth, *, seventh=1, **kwargs):
        pass

    assert overrides.parameter_names(Last) == {'fifth', 'third', 'first', 'second'}
    assert overrides.parameter_names(Closed) == {'unreached'}
    assert overrides.parameter_names(function) == {'sixth', 'seventh'}
    assert overrides.parameter_names(type('Plain', (), {})) == set()


def test_an_override_below_a_reference_changes_that_use_alone(tmp_path):
    head = "head = dict(type='HeadOfThisTest', sharpness=4)"
    path = child(tmp_path, f"{head}\nmodel = dict(heads=dict(a='$head', b='$head'))")
    config = load_config(path, {'model.heads.a.sharpness': 5})
    assert (config.model.heads.a.sharpness, config.model.heads.b.sharpness) == (5, 4)
    assert config['head'] == dict(type=HEAD, sharpness=4)
    config = load_config(path, {'head.sharpness': 5, 'head.inner': None})
    expected = dict(type=HEAD, sharpness=5, inner=None)
    assert config.model.heads.a == config.model.heads.b == expected
