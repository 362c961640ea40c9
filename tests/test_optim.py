"""Learning rates, decay and schedule of the release, and mixed precision on the CPU."""

import json

import pytest
import torch
from tiny import DATA, build_optimizer, clip_arch, layout, sen_config
from torch import nn

from sen_toolbox.checkpoint.renaming import new_names
from sen_toolbox.config import load_config
from sen_toolbox.registry import (
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    PARAM_SCHEDULERS,
)

# build_optimizer and build_lr_scheduler of SEN 3d887c1 on the layout of ViT-B/16.
OFFICIAL = json.loads((DATA / 'optimizer.json').read_text())


def release_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return build_optimizer(load_config('configs/sen/sen_vitb_cuhk.py').optim_wrapper, model)


def test_every_parameter_has_the_official_rate_and_decay():
    model = MODELS.build(sen_config(clip_arch=clip_arch(layers=12)))
    optimizer = release_optimizer(model)
    ours = {
        id(p): (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for p in group['params']
    }
    parameters = dict(model.named_parameters())
    official = {name: (lr, decay) for name, lr, decay in OFFICIAL['params']}
    known = [name for name in official if name.startswith(tuple(o for o, _ in layout('sen').TABLE))]
    names = new_names(known, layout('sen').TABLE)
    assert set(names.values()) == set(parameters)
    for official_name, name in names.items():
        assert ours[id(parameters[name])] == pytest.approx(official[official_name]), name


def test_adam_has_the_official_epsilon_and_couples_the_decay():
    optimizer = release_optimizer(MODELS.build(sen_config()))
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults['eps'] == 1e-3
    assert optimizer.defaults['betas'] == (0.9, 0.999)


def test_the_rate_of_each_of_60_epochs_is_the_official_one():
    config = load_config('configs/sen/sen_vitb_cuhk.py')
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-5)
    schedulers = [
        PARAM_SCHEDULERS.build({**cfg, 'optimizer': optimizer}) for cfg in config.param_scheduler
    ]
    for epoch, (expected, *_) in enumerate(OFFICIAL['cosine_60'], start=1):
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected, rel=1e-9), epoch
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


def test_a_rule_with_an_unknown_key_is_refused_by_name():
    rules = dict(rules=[dict(pattern='bias', lr_multiplier=2)])
    with pytest.raises(KeyError, match='lr_multiplier'):
        OPTIM_WRAPPER_CONSTRUCTORS.build(
            dict(type='RuleOptimWrapperConstructor', optim_wrapper_cfg={}, paramwise_cfg=rules)
        )


def build_with_rules(*rules):
    wrapper = dict(optimizer=dict(type='SGD', lr=1.0), paramwise_cfg=dict(rules=list(rules)))
    wrapper['constructor'] = 'RuleOptimWrapperConstructor'
    model = nn.ModuleDict(dict(classifier=nn.Linear(2, 1), norm=nn.LayerNorm(2)))
    model.norm.requires_grad_(False)
    return build_optimizer(wrapper, model)


def test_a_rule_that_matches_nothing_is_refused_with_what_is_alike():
    with pytest.raises(
        ValueError,
        match=r"rule \{'pattern': '\^clasifier\\\\.', 'lr_mult': 5\} matches no parameter; "
        r'alike are classifier.weight, classifier.bias; .* optional=True',
    ):
        build_with_rules(dict(pattern=r'bias$'), dict(pattern=r'^clasifier\.', lr_mult=5))
    with pytest.raises(ValueError, match=r"'\\\\.neck\\\\.'.* nothing is alike"):
        build_with_rules(dict(pattern=r'\.neck\.', lr_mult=5))


def test_an_optional_rule_may_match_nothing():
    optimizer = build_with_rules(dict(pattern='neck', lr_mult=5, optional=True))
    assert [group['lr'] for group in optimizer.param_groups] == [1.0]
    optimizer = build_with_rules(dict(pattern='weight', lr_mult=5, optional=True))
    assert [group['lr'] for group in optimizer.param_groups] == [5.0, 1.0]


def test_a_rule_may_match_what_is_not_trained_alone():
    optimizer = build_with_rules(dict(pattern=r'^norm\.', lr_mult=5))
    assert [group['lr'] for group in optimizer.param_groups] == [1.0]


@pytest.mark.parametrize('rule', [dict(lr_mult=2), dict(pattern='(bias'), dict(pattern=None)])
def test_a_rule_without_a_regular_expression_is_refused(rule):
    with pytest.raises(ValueError, match='needs a regular expression as its pattern'):
        build_with_rules(rule)


def test_the_rules_that_methods_share_match_in_the_methods_that_have_the_parts():
    model = MODELS.build(sen_config())
    wrapper = load_config('configs/sen/sen_vitb_cuhk.py').optim_wrapper
    for rule in wrapper.paramwise_cfg.rules:
        rule.optional = False
    build_optimizer(wrapper, model)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_half_precision_trains_on_the_cpu_and_keeps_float32_weights(dtype):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='AutocastOptimWrapper',
            dtype=dtype,
            optimizer=torch.optim.Adam(model.parameters(), lr=0.1, fused=True),
        )
    )
    inputs, losses = torch.randn(16, 4), []
    for _ in range(30):
        with wrapper.optim_context(model):
            output = model(inputs)
            assert output.dtype == getattr(torch, dtype)
            loss = (output.float() - inputs.sum(1, keepdim=True)).square().mean()
        wrapper.update_params(loss)
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10
    assert model.weight.dtype == torch.float32
    restored = OPTIM_WRAPPERS.build(
        dict(
            type='AutocastOptimWrapper',
            dtype=dtype,
            optimizer=torch.optim.Adam(model.parameters(), lr=0.1, fused=True),
        )
    )
    restored.load_state_dict(wrapper.state_dict())
    assert restored.loss_scaler.get_scale() == wrapper.loss_scaler.get_scale()


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('loss_scaler', [1], r'the loss_scaler of the optimizer has the scale None'),
        ('loss_scaler', dict(scale='x'), "has the scale 'x'"),
        ('loss_scaler', dict(scale=float('nan')), 'has the scale nan'),
        ('loss_scaler', dict(scale=0.0), 'has the scale 0.0'),
        ('loss_scaler', dict(_growth_tracker=0.5), 'has the _growth_tracker 0.5'),
        ('skipped_steps', 'x', "skipped_steps of the optimizer must be a whole number .*'x'"),
    ],
)
def test_a_hostile_state_of_half_precision_is_refused_by_name(key, value, message):
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='AutocastOptimWrapper',
            optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1),
        )
    )
    state = wrapper.state_dict()
    state[key] = state[key] | value if isinstance(value, dict) else value
    with pytest.raises(ValueError, match=message):
        wrapper.load_state_dict(state)


def test_an_unknown_precision_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="'bfloat16', 'float16'.*'half'"):
        OPTIM_WRAPPERS.build(
            dict(
                type='AutocastOptimWrapper',
                dtype='half',
                optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1),
            )
        )
