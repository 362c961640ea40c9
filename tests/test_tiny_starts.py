"""What tiny configs start from, where no towers are shipped, has a config of its own and fits."""

import re

import pytest
import torch
from mmengine.registry import DefaultScope
from tiny_methods import CONFIGS
from toy_data import ROOT, tool

from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS

pytestmark = pytest.mark.slow
START = re.compile(r'work_dirs/(\w+_tiny_world)/(\w+\.pth)')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where pretrainings leave their checkpoints."""
    return tmp_path_factory.mktemp('runs')


def built(config):
    with DefaultScope.overwrite_default_scope('sen_toolbox'):
        return MODELS.build(config.model)


def pretrain(name, file, folder):
    """The checkpoint that the config of this name would leave, after no step; made once."""
    path = folder / 'work_dirs' / name / file
    if path.exists():
        return
    config = load_config(tool('leaderboard').config_named(name))
    assert file == f'epoch_{config.train_cfg.max_epochs}.pth'
    path.parent.mkdir(parents=True)
    torch.save(dict(meta={}, state_dict=built(config).state_dict()), path)


@pytest.mark.parametrize('method', CONFIGS)
def test_what_a_tiny_config_starts_from_fits_it(method, folder, monkeypatch):
    config = load_config(ROOT / CONFIGS[method])
    starts = set(START.findall(repr(config.to_dict())))
    if not starts:
        return
    monkeypatch.syspath_prepend(ROOT / 'tools')
    monkeypatch.chdir(folder)
    for name, file in starts:
        pretrain(name, file, folder)
    model = built(config)
    if config.load_from:
        model.load_state_dict(torch.load(config.load_from, weights_only=True)['state_dict'])
    model.backbone.load_weights()
