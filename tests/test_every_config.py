"""Every config trains, is evaluated and goes on through the tools, on small encoders."""

import json

import pytest
import torch
from small_configs import but_for_the_data_set, small_config, write_config
from test_configs import CONFIGS
from toy_data import run_tool

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def used():
    """Configs but for their data set: those of a method often differ in nothing else."""
    return set()


@pytest.mark.parametrize('path', CONFIGS)
def test_a_config_trains_is_evaluated_and_goes_on(path, drawn_people, used, tmp_path):
    config, work_dir = tmp_path / 'small.py', tmp_path / 'work'
    small = small_config(path, drawn_people)
    write_config(small, config)
    rest = repr(but_for_the_data_set(small.to_dict()))
    if rest in used:
        run_tool('train', config, '--work-dir', work_dir, '--cfg-options', 'train_cfg.max_epochs=1')
        assert (work_dir / 'epoch_1.pth').is_file()
        return
    # Each method goes on once.
    last = 2 if path.endswith('_tiny_synthetic.py') else 1
    for epochs in range(1, last + 1):
        options = ('--resume', '--cfg-options', f'train_cfg.max_epochs={epochs}')
        run_tool('train', config, '--work-dir', work_dir, *options)
    first, end = (
        torch.load(work_dir / f'epoch_{n}.pth', weights_only=False)['meta'] for n in (1, last)
    )
    assert (end['epoch'], end['iter']) == (last, last * first['iter'])
    run_tool('test', config, work_dir / f'epoch_{last}.pth', '--work-dir', work_dir)
    [evaluation] = json.loads((work_dir / 'results.json').read_text())['evaluations']
    assert (evaluation['num_identities'], evaluation['num_images']) == (3, 6)
    for direction in ('t2i/R1', 'i2t/R1'):
        assert 0 <= evaluation['metrics'][direction] <= 100
    used.add(rest)
