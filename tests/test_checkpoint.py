"""Checkpoints: no code runs on loading, a failed save keeps the old file, keys must fit."""

import argparse
import builtins
import errno
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from mmengine.config import Config
from mmengine.fileio import get_file_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, save_checkpoint
from safetensors.torch import save_file
from tiny import clip_arch, golden_state, layout, sen_config
from toy_data import ROOT, run_tool

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.checkpoint.config_text import differing_model
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.hooks import StrictLoadHook
from sen_toolbox.registry import MODELS


class Harm:
    def __reduce__(self):
        return (exec, ("open('harmed', 'w').close()",))


def test_code_in_a_checkpoint_is_never_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=dict(weight=Harm())), 'bad.pth')
    with pytest.raises(
        ValueError, match=r'bad.pth is not a readable checkpoint .*other Python types'
    ):
        load_checkpoint_file('bad.pth')
    assert not Path('harmed').exists()
    # The file is harmful indeed.
    torch.load('bad.pth', weights_only=False)
    assert Path('harmed').exists()


def test_mmengine_loads_local_files_by_the_safe_loader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Harm(), 'bad.pth')
    with pytest.raises(ValueError, match='bad.pth is not a readable checkpoint'):
        CheckpointLoader.load_checkpoint('bad.pth')
    assert not Path('harmed').exists()


class ReadsAttribute:
    """Pickles as ``getattr(owner, name)``."""

    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return (builtins.getattr, (self.owner, self.name))


@pytest.mark.parametrize(
    ('owner', 'name'), [(HistoryBuffer, '__init__'), (HistoryBuffer, '__globals__'), (dict, 'mean')]
)
def test_a_checkpoint_reads_no_attribute_but_the_statistics_of_a_log(tmp_path, owner, name):
    file = tmp_path / 'x.pth'
    torch.save(dict(state_dict={}, value=ReadsAttribute(owner, name)), file)
    with pytest.raises(ValueError, match=r'x.pth is not a readable checkpoint'):
        load_checkpoint_file(str(file))


def test_the_logs_of_an_mmengine_checkpoint_are_read(tmp_path):
    log = HistoryBuffer([1.0, 3.0], [1, 1])
    content = dict(
        state_dict=dict(weight=torch.ones(2)),
        message_hub=dict(log_scalars={'train/loss': log}, runtime_info={'epoch': np.int64(3)}),
        meta=dict(epoch=3, seed=np.float64(0.5)),
    )
    save_checkpoint(content, str(tmp_path / 'x.pth'))
    loaded = load_checkpoint_file(str(tmp_path / 'x.pth'))
    history, count = loaded['message_hub']['log_scalars']['train/loss'].data
    assert history.tolist() == [1.0, 3.0]
    assert count.tolist() == [1, 1]
    assert loaded['message_hub']['log_scalars']['train/loss'].mean() == 2.0
    assert loaded['message_hub']['runtime_info'] == {'epoch': 3}
    assert torch.equal(loaded['state_dict']['weight'], torch.ones(2))


@pytest.mark.parametrize('share', [0.0, 0.3, 0.9])
def test_a_truncated_checkpoint_is_refused_by_name(tmp_path, share):
    file = tmp_path / 'cut.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(1000))), file)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r'cut.pth is not a readable checkpoint \(truncated'):
        load_checkpoint_file(str(file))


def test_an_absent_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no checkpoint .*nowhere.pth'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'nowhere.pth'))


def test_safetensors_are_read(tmp_path):
    save_file(dict(weight=torch.arange(3.0)), tmp_path / 'x.safetensors')
    loaded = load_checkpoint_file(str(tmp_path / 'x.safetensors'))
    assert list(loaded) == ['state_dict']
    assert loaded['state_dict']['weight'].tolist() == [0, 1, 2]


def test_a_truncated_safetensors_file_is_refused_by_name(tmp_path):
    file = tmp_path / 'cut.safetensors'
    save_file(dict(weight=torch.arange(300.0)), file)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match='cut.safetensors is not a readable checkpoint'):
        load_checkpoint_file(str(file))


def test_a_saved_checkpoint_replaces_the_old_one_and_leaves_nothing_beside(tmp_path):
    file = tmp_path / 'new folder' / 'x.pth'
    for value in (1, 2):
        save_checkpoint(dict(state_dict={}, value=value), str(file))
    assert load_checkpoint_file(str(file))['value'] == 2
    assert [path.name for path in file.parent.iterdir()] == ['x.pth']


def test_a_full_disk_keeps_the_old_checkpoint_and_leaves_no_part(tmp_path, monkeypatch):
    file = tmp_path / 'x.pth'
    save_checkpoint(dict(state_dict={}, value=1), str(file))

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', full)
        with pytest.raises(OSError, match=r'could not write .*x.pth \(No space left on device\)'):
            save_checkpoint(dict(state_dict={}, value=2), str(file))
    assert load_checkpoint_file(str(file))['value'] == 1
    assert [path.name for path in tmp_path.iterdir()] == ['x.pth']


def test_text_is_written_by_the_same_backend(tmp_path):
    backend = get_file_backend(str(tmp_path))
    backend.put_text('epoch é', tmp_path / 'last_checkpoint')
    assert (tmp_path / 'last_checkpoint').read_text(encoding='utf-8') == 'epoch é'
    assert type(backend).__name__ == 'AtomicLocalBackend'


class FakeRunner:
    def __init__(self, model, /, **cfg):
        self.model = model
        self.cfg = cfg


def test_a_checkpoint_of_another_architecture_is_refused_with_its_keys():
    model = MODELS.build(sen_config(image_size=(64, 32)))
    deeper = sen_config(image_size=(64, 32), clip_arch=clip_arch(layers=3))
    deeper = MODELS.build(deeper).state_dict()
    with pytest.raises(
        ValueError, match=r'x/deep.pth does not fit the model: unexpected backbone.image.*2\.'
    ):
        runner = FakeRunner(model, load_from='x/deep.pth')
        StrictLoadHook().after_load_checkpoint(runner, dict(state_dict=deeper))
    with pytest.raises(ValueError, match=r'missing backbone.*and \d+ more'):
        StrictLoadHook().after_load_checkpoint(FakeRunner(model), {})


def test_settings_that_differ_from_those_of_the_checkpoint_are_told_with_both_values():
    text = Config(dict(model=dict(width=4, heads=dict(a=dict(size=(2, 1)))), lr=1)).pretty_text
    runner = FakeRunner(
        torch.nn.Linear(2, 3),
        load_from='x.pth',
        lr=2,
        model=dict(width=3, heads=dict(a=dict(size=[2, 1]), b={})),
    )
    with pytest.raises(ValueError, match=r'x.pth does not fit .*shape') as refused:
        checkpoint = dict(meta=dict(cfg=text), state_dict=torch.nn.Linear(2, 4).state_dict())
        StrictLoadHook().after_load_checkpoint(runner, checkpoint)
    assert str(refused.value).endswith(
        'settings that differ from its own config: model.heads.b={} where the checkpoint has '
        'nothing; model.width=3 where the checkpoint has 4'
    )


@pytest.mark.parametrize(
    'meta', [None, [], dict(cfg=3), dict(cfg='model = 3'), dict(cfg='model = (' * 999), {1: 2}]
)
def test_a_checkpoint_that_tells_no_config_tells_no_settings(meta):
    assert differing_model(dict(model=dict(width=3)), meta) == ''


def test_a_checkpoint_of_other_shapes_is_refused_with_both_shapes():
    model = torch.nn.Linear(2, 3)
    state = dict(model.state_dict(), weight=torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r'x.pth .*weight has shape \(3, 4\), expected \(3, 2\)'):
        check_keys(model, state, 'x.pth')
    check_keys(model, model.state_dict(), 'x.pth')


def write_sen(path, **overrides):
    """A config file of the golden model, with other values."""
    official = str(ROOT / 'configs' / 'sen' / 'official.py')
    path.write_text(f'model = {sen_config(**overrides)!r}\nofficial = {official!r}\n')
    return str(path)


@pytest.fixture
def small_sen(tmp_path):
    return write_sen(tmp_path / 'small_sen.py')


def test_an_official_checkpoint_is_converted_there_and_back(tmp_path, small_sen):
    official = {f'module.{key}': value for key, value in golden_state().items()}
    # The release keeps its arguments beside the weights.
    content = dict(model=official, args=argparse.Namespace(lr=1e-5))
    torch.save(content, tmp_path / 'official.pth')
    run_tool(
        'convert_checkpoint', small_sen, tmp_path / 'official.pth', tmp_path / 'out' / 'ours.pth'
    )
    ours = load_checkpoint_file(str(tmp_path / 'out' / 'ours.pth'))['state_dict']
    MODELS.build(sen_config()).load_state_dict(ours)

    back_file = tmp_path / 'back.pth'
    run_tool(
        'convert_checkpoint', small_sen, tmp_path / 'out' / 'ours.pth', back_file, '--to-official'
    )
    back = torch.load(back_file, weights_only=True)['model']
    for key, value in golden_state().items():
        if not key.startswith(layout('sen').UNUSED[1:]):
            assert torch.allclose(back[key], value.float(), atol=1e-6), key
    again = layout('sen').from_official(back)
    assert set(again) == set(ours)
    assert all(torch.equal(again[key], ours[key]) for key in ours)


def test_an_official_checkpoint_of_another_size_is_not_converted(tmp_path):
    torch.save(dict(model=golden_state()), tmp_path / 'official.pth')
    other = write_sen(tmp_path / 'other.py', num_classes=7)
    with pytest.raises(ValueError, match=r'classifier.weight has shape \(20, 64\), expected \(7,'):
        run_tool(
            'convert_checkpoint',
            other,
            tmp_path / 'official.pth',
            tmp_path / 'ours.pth',
        )
    assert not (tmp_path / 'ours.pth').exists()


def test_conversion_executes_no_code(tmp_path, monkeypatch, small_sen):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(model=Harm()), 'bad.pth')
    with pytest.raises(ValueError, match='bad.pth is not a readable checkpoint'):
        run_tool('convert_checkpoint', small_sen, 'bad.pth', 'ours.pth')
    assert not Path('harmed').exists()


def test_a_saved_checkpoint_is_a_zip_file_that_torch_reads_alone(tmp_path):
    save_checkpoint(dict(state_dict=dict(weight=torch.ones(2))), str(tmp_path / 'x.pth'))
    assert zipfile.is_zipfile(tmp_path / 'x.pth')


@pytest.mark.slow
@pytest.mark.parametrize('module', ['config', 'hooks', 'checkpoint.registration'])
def test_mmengine_reads_checkpoints_safely_also_for_configs_that_do_not_name_it(module, tmp_path):
    """Those written before have the package in custom_imports, which then registered itself."""
    script = tmp_path / 'reads.py'
    script.write_text(
        'from mmengine.fileio.backends import backends\n'
        'from mmengine.runner.checkpoint import CheckpointLoader\n'
        "assert backends['local'].__module__.startswith('mmengine.')\n"
        f'import sen_toolbox.{module}\n'
        'schemes = CheckpointLoader._schemes\n'
        "print(*sorted({s.__module__ for s in schemes.values()}), backends['local'].__module__)\n"
    )
    assert run(tmp_path, script).split() == [
        'sen_toolbox.checkpoint.loading',
        'sen_toolbox.checkpoint.registration',
        'sen_toolbox.checkpoint.saving',
    ]
