"""Every config trains, is evaluated and goes on through the tools, on small encoders."""

import json

import pytest
from small_configs import small_config, write_config
from test_configs import CONFIGS
from toy_data import run_tool

from sen_toolbox.checkpoint.loading import load_checkpoint_file

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('path', CONFIGS)
def test_a_config_trains_is_evaluated_and_goes_on(path, drawn_people, tmp_path):
    config, work_dir = tmp_path / 'small.py', tmp_path / 'work'
    write_config(small_config(path, drawn_people), config)
    for epochs in (1, 2):
        options = ('--resume', '--cfg-options', f'train_cfg.max_epochs={epochs}')
        run_tool('train', config, '--work-dir', work_dir, *options)
    first, second = (load_checkpoint_file(str(work_dir / f'epoch_{n}.pth'))['meta'] for n in (1, 2))
    assert (second['epoch'], second['iter']) == (2, 2 * first['iter'])
    run_tool('test', config, work_dir / 'epoch_2.pth', '--work-dir', work_dir)
    [evaluation] = json.loads((work_dir / 'results.json').read_text())['evaluations']
    assert (evaluation['num_identities'], evaluation['num_images']) == (3, 6)
    for direction in ('t2i/R1', 'i2t/R1'):
        assert 0 <= evaluation['metrics'][direction] <= 100
