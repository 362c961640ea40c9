"""Trainings with several seeds, side by side, that go on where they stopped."""

import json
import os
import signal
import statistics
import sys
import threading
import time
from argparse import Namespace

import pytest
import torch
from mmengine.config import Config
from toy_data import ROOT, run_tool, write_toy_config, write_toy_data

from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS

sys.path.insert(0, str(ROOT / 'tools'))  # as for a script that lies there
import repeat  # noqa: E402

ONE_EPOCH = ('--cfg-options', 'max_epochs=1', 'log_level=WARNING')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('compare')
    write_toy_data(path / 'data')
    return path


@pytest.fixture(scope='module')
def towers(folder):
    """A checkpoint of untrained towers."""
    config = load_config(write_toy_config(folder / 'towers.py', folder / 'data'))
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(config.model).state_dict()), folder / 'towers.pth')
    return folder / 'towers.pth'


@pytest.fixture
def calls(monkeypatch):
    """Runs the tools in this process, which is faster, and lists them."""
    found = []

    def run(tool, *arguments):
        found.append((tool, *map(str, arguments)))
        run_tool(tool.removesuffix('.py'), *arguments)
        return True

    monkeypatch.setattr(repeat, '_run', run)
    return found


def summary_of(work_dir):
    return json.loads((work_dir / 'summary.json').read_text())


@pytest.mark.slow
def test_seeds_are_trained_and_tested_once_with_the_best_and_the_last_epoch(folder, calls, capfd):
    config = write_toy_config(folder / 'toy_seeds.py', folder / 'data')
    work_dir = folder / 'seeds'
    command = ('train_seeds', config, '--work-dir', work_dir, '--seeds', 3, *ONE_EPOCH)
    run_tool(*command)
    assert [call[0] for call in calls] == ['train.py', 'test.py', 'test.py']
    summary = summary_of(work_dir)
    assert summary['seeds'] == [3]
    assert list(summary['rows']) == ['last epoch', 'best epoch on val']
    for name, selected in (('last', 'last'), ('best', 'val')):
        path = work_dir / 'seed_3' / f'test_{name}' / 'results.json'
        checkpoint = json.loads(path.read_text())['checkpoint']
        assert (checkpoint['seed'], checkpoint['selected']) == (3, selected)

    first = work_dir / 'seed_3' / 'test_last' / 'results.json'
    [evaluation] = json.loads(first.read_text())['evaluations']
    values = summary['rows']['last epoch']['t2i/mAP']['values']
    assert values == [evaluation['metrics']['t2i/mAP']]

    # Again, with one result missing: only that test is repeated, after a training that is over.
    first.unlink()
    calls.clear()
    run_tool(*command)
    assert [call[:1] + call[-1:] for call in calls[:1]] == [('train.py', 'randomness.seed=3')]
    assert [call[0] for call in calls[1:]] == ['test.py']
    assert 'Epoch(train)' not in ''.join(capfd.readouterr())
    assert summary_of(work_dir) == summary


@pytest.mark.slow
def test_methods_start_from_the_same_towers_and_stand_in_one_table(folder, towers, calls, capfd):
    configs = []
    for name in ('first', 'second'):
        configs.append(write_toy_config(folder / f'{name}.py', folder / 'data'))
    configs[1].write_text(configs[1].read_text() + 'model = dict(loss_weights=dict(triplet=0.0))\n')
    work_dir = folder / 'methods'
    options = ('--work-dir', work_dir, '--seeds', 0, *ONE_EPOCH)
    run_tool('compare_methods', towers, *configs, *options)
    rows = summary_of(work_dir)['rows']
    assert list(rows) == ['no fine-tuning', 'first, 1 epochs', 'second, 1 epochs']
    tested = [work_dir / name / 'seed_0' / 'test_last' for name in ('first', 'second')]
    shas = [
        json.loads((path / 'results.json').read_text())['checkpoint']['sha256'] for path in tested
    ]
    assert shas[0] != shas[1]
    for name in ('first', 'second'):
        config = Config.fromfile(work_dir / f'{name}.py')
        assert config.model.backbone.image.pretrained == str(towers)
        assert config.val_dataloader is None
    table = capfd.readouterr().out
    assert '| no fine-tuning | 1 | ' in table
    assert table.index('no fine-tuning |') < table.index('first, 1 epochs |')


def test_the_ablation_takes_one_part_out_of_each_variant(folder, towers, monkeypatch):
    trained = []

    def fail_to_train(tool, config, *arguments):
        trained.append((tool, config.stem, arguments[-1]))
        return False

    monkeypatch.setattr(repeat, '_run', fail_to_train)
    config = write_toy_config(folder / 'toy_ablation.py', folder / 'data')
    work_dir = folder / 'ablation'
    options = ('--config', config, '--work-dir', work_dir, '--seeds', 0, 1)
    with pytest.raises(SystemExit, match='11 of 11 tests have no result'):
        run_tool('ablate_sen', towers, *options)
    names = [
        'SEN',
        *(f'without_{part}' for part in ('restoration', 'triplet', 'PruneCaption', 'MaskWords')),
    ]
    assert trained[1:] == [
        ('train.py', name, f'randomness.seed={seed}') for seed in (0, 1) for name in names
    ]
    parts = {}
    for name in names:
        found = Config.fromfile(work_dir / f'{name}.py')
        assert set(found.model.heads) == set(found.model.loss_weights)
        steps = [step.type for step in found.train_dataloader.dataset.pipeline]
        parts[name] = {*found.model.heads, *steps}
    for name in names[1:]:
        assert parts['SEN'] - parts[name] == {name.removeprefix('without_')}
    assert {'identity', 'sdm', 'Tokenize'} <= set.intersection(*parts.values())


def test_other_options_do_not_join_results_in_the_same_folder(tmp_path):
    path = tmp_path / 'runs' / 'a.py'
    assert repeat.write_config(Config(dict(max_epochs=1)), path) == path
    repeat.write_config(Config(dict(max_epochs=1)), path)
    with pytest.raises(SystemExit, match='a.py is of other options'):
        repeat.write_config(Config(dict(max_epochs=2)), path)


def test_two_configs_of_the_same_name_are_refused(towers, capsys):
    with pytest.raises(SystemExit):
        run_tool('compare_methods', towers, 'a/same.py', 'b/same.py')
    assert 'the same file name' in capsys.readouterr().err


def test_the_spread_is_the_standard_deviation_of_a_sample():
    assert repeat.mean_and_spread([1.0, 2.0, 6.0]) == (3.0, statistics.stdev([1, 2, 6]))
    assert repeat.mean_and_spread([5.0]) == (5.0, None)


def test_a_table_tells_how_many_runs_each_row_has_and_which_failed():
    runs = [dict.fromkeys(repeat.MEASURES, value) for value in (1.0, 2.0)]
    lines = repeat.spread_table({'a': runs, 'b': runs[:1], 'c': []}, 'title').splitlines()
    assert lines[0] == 'title'
    # Half the difference times the square root of two.
    assert lines[4] == '| a | 2 |' + ' 1.50 ± 0.71 |' * 5
    assert lines[5] == '| b | 1 |' + ' 1.00 |' * 5
    assert lines[6] == '| c | 0 |' + ' failed |' * 5


@pytest.mark.slow
def test_a_tool_that_fails_is_told_with_its_reason(capfd, monkeypatch):
    monkeypatch.setattr(repeat, 'failures', [])
    assert repeat._run('test.py', 'nowhere.py', 'nothing.pth') is False
    output = capfd.readouterr()
    assert 'there is no config nowhere.py' in output.err
    reason = 'status 1: test.py: there is no config nowhere.py'
    assert f'test.py failed ({reason})' in output.out
    assert repeat.failures == [f'test.py nowhere.py nothing.pth: {reason}']


def test_the_report_ends_with_the_reasons_of_what_failed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(repeat, 'failures', ['train.py a.py: status 1: there is no folder data'])
    args = Namespace(work_dir=tmp_path, seeds=[0])
    with pytest.raises(SystemExit, match='1 of 1 tests have no result'):
        repeat.report({'a': []}, 1, 'title', args)
    assert capsys.readouterr().out.endswith(
        '\nFailed:\n- train.py a.py: status 1: there is no folder data\n'
    )


SAVES = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.5)
    pathlib.Path('saved').touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path('ready').touch()
time.sleep(60)
"""


@pytest.mark.slow
def test_a_training_that_is_told_to_end_may_save_and_no_other_one_follows(tmp_path, monkeypatch):
    (tmp_path / 'train.py').write_text(SAVES)
    monkeypatch.setattr(repeat, 'TOOLS', tmp_path)
    monkeypatch.chdir(tmp_path)

    def tell():
        while not (tmp_path / 'ready').exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=tell).start()
    with pytest.raises(SystemExit) as stopped:
        repeat.train('config.py', tmp_path, seed=0)
    assert stopped.value.code == 143
    assert (tmp_path / 'saved').exists()


def test_training_without_validation_keeps_how_often_it_saves(folder):
    toy = write_toy_config(folder / 'saves.py', folder / 'data')
    config = load_config(toy, {'default_hooks.checkpoint.every_iters': 3})
    hook = repeat.without_validation(config).default_hooks.checkpoint
    assert (hook.every_iters, hook.max_keep_ckpts) == (3, 1)
    assert 'save_best' not in hook
