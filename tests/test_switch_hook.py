"""SwitchHook gives a setting another value from some epoch on."""

from types import SimpleNamespace

import pytest
from torch import nn

from sen_toolbox.registry import HOOKS


def model():
    part = nn.Identity()
    part.adaptive = False
    return nn.ModuleDict({'part': part})


@pytest.mark.parametrize('wrap', [False, True])
def test_a_setting_changes_in_its_epoch_and_stays(wrap):
    plain = model()
    hook = HOOKS.build(dict(type='SwitchHook', target='part.adaptive', value=True, epoch=5))
    runner = SimpleNamespace(model=nn.DataParallel(plain) if wrap else plain)
    hook.before_train(runner)
    found = []
    for runner.epoch in (0, 4, 5, 6):
        hook.before_train_epoch(runner)
        found.append(plain['part'].adaptive)
    assert found == [False, False, True, True]


@pytest.mark.parametrize('target', ['part.adaptiv', 'parts.adaptive'])
def test_a_setting_that_is_not_there_is_named(target):
    hook = HOOKS.build(dict(type='SwitchHook', target=target, value=True, epoch=5))
    with pytest.raises(KeyError, match=f"SwitchHook: the model has no setting '{target}'"):
        hook.before_train(SimpleNamespace(model=model()))


def test_an_epoch_before_the_first_is_refused():
    with pytest.raises(ValueError, match='epoch must be at least 0, got -1'):
        HOOKS.build(dict(type='SwitchHook', target='a.b', value=1, epoch=-1))
