"""Losses that are not finite stop the run with a dump; overflows in float16 are counted."""

import re

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from toy_data import NUM_CLASSES, run_tool, write_toy_config, write_toy_data

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.optim import AutocastOptimWrapper

# Adam moves every weight by about this, so the second forward pass overflows.
EXPLODES = ('--cfg-options', 'max_epochs=1', 'optim_wrapper.optimizer.lr=1e30')


@pytest.fixture
def toy(tmp_path):
    return write_toy_config(tmp_path / f'toy_{tmp_path.name}.py', write_toy_data(tmp_path / 'data'))


def dump_of(work_dir):
    [path] = work_dir.glob('nonfinite_*.pth')
    return path, load_checkpoint_file(str(path))


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_can_be_replayed(toy, tmp_path, capfd):
    with pytest.raises(FloatingPointError) as caught:
        run_tool('train', toy, '--work-dir', tmp_path, *EXPLODES)
    message = str(caught.value)
    assert re.search(r"head .*'sdm' \(nan\)", message)
    assert 'in iteration 2 (epoch 1, batch 2), person ids ' in message
    path, dump = dump_of(tmp_path)
    assert path.name == 'nonfinite_iter_2_rank_0.pth'
    assert str(path) in message
    # The data set's own, by which a reader finds the images: here every third number, while labels
    # have no gaps.
    assert dump['batch']['person_ids'].tolist() == (3 * dump['batch']['labels']).tolist()
    person_ids = sorted(set(dump['batch']['person_ids'].tolist()))
    assert max(person_ids) >= NUM_CLASSES
    assert f'person ids {", ".join(map(str, person_ids))};' in message
    assert dump['batch']['images'].dtype == torch.uint8
    # The weights of before the step: large, because of the first, and not a number nowhere.
    assert all(value.isfinite().all() for value in dump['state_dict'].values())
    assert not list(tmp_path.glob('epoch_*.pth'))
    capfd.readouterr()
    run_tool('replay_step', path, '--device', 'cpu')
    output = capfd.readouterr().out
    assert 'iteration 2, epoch 1, batch 2' in output
    for name, value in dump['losses'].items():
        [line] = [line for line in output.splitlines() if line.startswith(name)]
        assert line.split()[1] == line.split()[4] == f'{value:.6g}'
    assert re.search(r'first module whose output is not finite: backbone\.\S+ \(', output)
    assert 'its input is finite' in output


@pytest.mark.slow
def test_a_replay_repeats_the_random_choices_of_the_step(toy, tmp_path, monkeypatch, capfd):
    """One head fails for no numerical reason; the losses of the others must come out again."""
    forward = 'sen_toolbox.models.heads.identity.IdentityHead.forward'
    with monkeypatch.context() as patch, pytest.raises(FloatingPointError, match="'identity'"):
        patch.setattr(forward, lambda *_: dict(loss=torch.tensor(float('inf'))))
        run_tool('train', toy, '--work-dir', tmp_path, '--cfg-options', 'max_epochs=1')
    path, dump = dump_of(tmp_path)
    capfd.readouterr()
    run_tool('replay_step', path, '--device', 'cpu')
    output = capfd.readouterr().out
    lines = {line.split()[0]: line.split() for line in output.splitlines() if '.loss' in line}
    assert lines['identity.loss'][1] == 'inf'
    assert lines['identity.loss'][4] != 'inf'
    # Depends on erased rectangles and on the patches that were hidden.
    assert lines['restoration.loss'][1] == lines['restoration.loss'][4]
    assert 'All is finite here' in output


@pytest.mark.slow
def test_in_float16_a_loss_that_is_not_finite_is_no_overflow_to_be_skipped(toy, tmp_path):
    with pytest.raises(FloatingPointError, match=r'in iteration \d '):
        run_tool('train', toy, '--work-dir', tmp_path, '--amp', *EXPLODES)
    assert dump_of(tmp_path)[1]['autocast'] == 'float16'


def wrapper(**kwargs):
    model = torch.nn.Linear(2, 1)
    kind = AutocastOptimWrapper if kwargs else OptimWrapper
    return model, kind(optimizer=torch.optim.SGD(model.parameters(), lr=0.1), **kwargs)


def test_a_skipped_step_is_counted_shown_and_remembered(monkeypatch):
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'cpu')
    model, optim = wrapper(dtype='float16')
    before = model.weight.clone()
    for factor, skipped in ((1.0, 0), (float('inf'), 1), (1.0, 1), (float('nan'), 2)):
        optim.update_params((model.weight * factor).sum())
        assert optim.skipped_steps == skipped
        shown = MessageHub.get_current_instance().get_scalar('train/skipped_steps')
        assert shown.current() == skipped
    assert model.weight.isfinite().all()
    assert torch.allclose(model.weight, before - 0.2), 'two of four steps were made'
    _, resumed = wrapper(dtype='float16')
    resumed.load_state_dict(optim.state_dict())
    assert resumed.skipped_steps == 2
    assert resumed.loss_scaler.get_scale() == optim.loss_scaler.get_scale() == 2.0**14
    resumed.load_state_dict(wrapper()[1].state_dict())
    assert resumed.skipped_steps == 0
