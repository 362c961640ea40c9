"""Every config trains, is evaluated and goes on through the tools, on small encoders."""

import json

import pytest
import torch
from mmengine.registry import DefaultScope
from small_configs import DRAWN, but_for_the_data_set, small_config, write_config
from test_configs import CONFIGS, DATALOADERS
from toy_data import run_tool

from sen_toolbox.registry import DATASETS

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def used():
    """What has trained, but for the data set: configs of a method often differ in nothing else."""
    return set()


@pytest.mark.parametrize('path', CONFIGS)
def test_a_config_trains_is_evaluated_and_goes_on(path, drawn_people, used, tmp_path):
    small = small_config(path, drawn_people)
    rest = but_for_the_data_set(small)
    if rest in used:
        read_every_split(small)
        return
    used.add(rest)
    config, work_dir = tmp_path / 'small.py', tmp_path / 'work'
    write_config(small, config)
    first = train_up_to(1, config, work_dir)
    assert first['epoch'] == 1
    check_evaluation(config, work_dir)
    # Each method goes on once.
    if path.endswith('_tiny_synthetic.py'):
        second = train_up_to(2, config, work_dir)
        assert (second['epoch'], second['iter']) == (2, 2 * first['iter'])


def train_up_to(epochs, config, work_dir):
    """Trains, or goes on, and tells what the checkpoint says of itself."""
    options = ('--resume', '--cfg-options', f'train_cfg.max_epochs={epochs}')
    run_tool('train', config, '--work-dir', work_dir, *options)
    # No weight is read with mmap.
    return torch.load(work_dir / f'epoch_{epochs}.pth', weights_only=False, mmap=True)['meta']


def check_evaluation(config, work_dir):
    run_tool('test', config, work_dir / 'epoch_1.pth', '--work-dir', work_dir)
    [evaluation] = json.loads((work_dir / 'results.json').read_text())['evaluations']
    assert (evaluation['num_identities'], evaluation['num_images']) == (3, 6)
    for direction in ('t2i/R1', 'i2t/R1'):
        assert 0 <= evaluation['metrics'][direction] <= 100


def read_every_split(config):
    with DefaultScope.overwrite_default_scope('sen_toolbox'):
        for name in DATALOADERS:
            split = config[name].dataset
            dataset = DATASETS.build(split)
            found = {dataset.get_data_info(index)['person_id'] for index in range(len(dataset))}
            assert len(found) == DRAWN['num_ids'][split.split]
            assert dataset[0]['images'].shape[0] == 3
