"""A training that is asked to end finishes its step, saves, and resumes as if it had not been."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from types import SimpleNamespace

import commands
import pytest
from kill_training import differences
from torch.utils.data import DataLoader
from toy_data import ROOT, run_tool, write_toy_config, write_toy_data

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.hooks.stop import StopHook
from sen_toolbox.models.retriever import TextImageRetriever
from sen_toolbox.signals import SAME_WISH_SECONDS, StopSignals

KILL = ROOT / 'tests/kill_training.py'


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'nothing happened'
        time.sleep(0.005)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noticed_and_ends_nothing(number):
    before = signal.getsignal(number)
    with StopSignals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), number)
        wait_until(lambda: signals.received is not None)
        assert signals.received == number
        # As a launcher passes it on.
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
    assert signal.set_wakeup_fd(-1) == -1, 'nothing is written any more'


def test_signals_do_again_what_they_did_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match='out of memory'), StopSignals():
        raise ValueError('out of memory')
    assert signal.getsignal(signal.SIGTERM) is before


WAITS = """
import ctypes, sys
from sen_toolbox.models.retriever import TextImageRetriever
from sen_toolbox.signals import StopSignals
with StopSignals():
    sys.stdout.write('ready\\n')
    sys.stdout.flush()
    # Python's handlers wait for the end of this, as for a call that waits for another process.
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""


@pytest.mark.slow
def test_a_second_signal_ends_a_process_that_waits_for_something_at_once():
    process = subprocess.Popen(
        [sys.executable, '-c', WAITS],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b'ready\n'
    process.send_signal(signal.SIGTERM)
    time.sleep(SAME_WISH_SECONDS + 0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    process.stdout.close()


# In a process that has imported nothing else: gRPC, where a test has loaded it, starts threads in
# every fork, which know nothing of what a worker blocks.
SHELTERED = """
import os, signal, subprocess, sys, time
from sen_toolbox.signals import ShelteredWorker
read, written = os.pipe()
worker = os.fork()
if worker == 0:
    ShelteredWorker(None)(0)
    os.write(written, b'r')
    time.sleep(600)
os.read(read, 1)
stranger = f'import os; os.kill({worker}, 15); os.kill({worker}, 2)'
subprocess.run([sys.executable, '-c', stranger], check=True)
time.sleep(0.2)
assert os.waitpid(worker, os.WNOHANG) == (0, 0), 'it lives'
os.kill(worker, signal.SIGTERM)
assert os.waitpid(worker, 0) == (worker, 0)
"""


def test_a_worker_of_a_loader_is_ended_by_its_own_process_alone():
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    subprocess.run([sys.executable, '-c', SHELTERED], env=environment, check=True, timeout=60)


# torch's handler, which ends a worker, is there before the worker's own code.
BORN = """
import os, signal, sys
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling
from sen_toolbox.signals import ShelteredWorker, StopSignals, sheltering_fork
install = signal_handling._set_worker_signal_handlers
def install_and_get_the_signal():
    install()
    os.kill(os.getpid(), signal.SIGTERM)
signal_handling._set_worker_signal_handlers = install_and_get_the_signal
fork = sheltering_fork() if sys.argv[1] == 'sheltered' else 'fork'
loader = DataLoader(
    range(4), num_workers=2, worker_init_fn=ShelteredWorker(None), multiprocessing_context=fork
)
with StopSignals() as signals:
    print([int(number) for number in loader])
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""


@pytest.mark.parametrize(
    ('way', 'told'), [('sheltered', '[0, 1, 2, 3]'), ('plain', 'RuntimeError: DataLoader worker')]
)
def test_a_worker_that_gets_the_signal_while_it_starts_goes_on(way, told):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', BORN, way]
    run = subprocess.run(command, env=environment, timeout=60, capture_output=True, text=True)
    assert told in run.stdout + run.stderr
    assert (run.returncode == 0) == (way == 'sheltered')


@pytest.mark.parametrize(
    ('settings', 'is_sheltered'),
    [
        (dict(num_workers=1), True),
        (dict(num_workers=1, multiprocessing_context='fork'), True),
        (dict(num_workers=1, multiprocessing_context='spawn'), False),
        (dict(num_workers=0), False),
    ],
)
def test_forked_workers_are_born_sheltered_and_others_start_as_the_config_says(
    settings, is_sheltered, monkeypatch
):
    monkeypatch.setattr('multiprocessing.get_start_method', lambda: 'fork')
    loader = DataLoader(range(2), **settings)
    before = loader.multiprocessing_context
    runner = SimpleNamespace(train_loop=SimpleNamespace(dataloader=loader), val_loop=None)
    with ExitStack() as at_end:
        StopHook(at_end).before_train(runner)
    start = loader.multiprocessing_context
    assert (type(start).__name__ == 'ShelteringFork') == is_sheltered
    assert is_sheltered or start is before


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('stop')
    write_toy_data(path / 'data')
    return path


@pytest.fixture
def toy(folder, request):
    return write_toy_config(
        folder / f'toy_{request.node.name}.py'.replace('[', '_'), folder / 'data'
    )


OPTIONS = ('--cfg-options', 'max_epochs=2', 'randomness.deterministic=True')


@pytest.fixture(scope='module')
def undisturbed(folder):
    """The files that a training of two epochs leaves."""
    toy = write_toy_config(folder / 'undisturbed.py', folder / 'data')
    run_tool('train', toy, '--work-dir', folder / 'undisturbed', *OPTIONS)
    return folder / 'undisturbed'


def names(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth'))


def signal_at(monkeypatch, name, at, number=signal.SIGTERM):
    """Sends this process a signal when a method of the model is called for the ``at``-th time."""
    calls, original = [], getattr(TextImageRetriever, name)

    def method(*args, **kwargs):
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), number)
            time.sleep(0.05)  # until a thread has noticed it
        return original(*args, **kwargs)

    monkeypatch.setattr(TextImageRetriever, name, method)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('number', 'method', 'at', 'options', 'left'),
    [
        (signal.SIGTERM, 'train_step', 3, (), ['stopped_iter_3.pth']),
        (signal.SIGINT, 'train_step', 3, (), ['stopped_iter_3.pth']),
        # The last step of an epoch: its end, its checkpoint and its validation are still to come.
        (signal.SIGTERM, 'train_step', 6, (), ['stopped_iter_6.pth']),
        # The checkpoint of the epoch has been written, and the validation is run again.
        (signal.SIGTERM, 'val_step', 1, (), ['epoch_1.pth']),
        # There is none, so the validation is finished.
        (
            *(signal.SIGTERM, 'val_step', 1, ('default_hooks.checkpoint.interval=2',)),
            ['best_t2i_R1_epoch_1.pth', 'stopped_iter_6.pth'],
        ),
        # Nothing is written twice.
        (
            *(signal.SIGTERM, 'train_step', 4, ('default_hooks.checkpoint.every_iters=2',)),
            ['iter_4.pth'],
        ),
    ],
)
def test_a_stopped_training_ends_as_one_that_was_not(
    toy, folder, undisturbed, monkeypatch, number, method, at, options, left
):
    work_dir = folder / toy.stem
    arguments = ('train', toy, '--work-dir', work_dir, *OPTIONS, *options)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        signal_at(patch, method, at, number)
        run_tool(*arguments)
    assert stopped.value.code == 128 + number
    assert names(work_dir) == left
    run_tool(*arguments, '--resume')
    kept = {name for name in names(undisturbed) if 'interval' not in str(options)}
    assert set(names(work_dir)) == kept or not kept
    for part in ('state_dict', 'optimizer', 'param_schedulers', 'message_hub'):
        ends = [
            load_checkpoint_file(str(place / 'epoch_2.pth'))[part]
            for place in (undisturbed, work_dir)
        ]
        if part == 'message_hub' and 'interval' in str(options):
            continue  # lists the files that it keeps
        assert differences(*ends) == [], part


@pytest.mark.slow
def test_two_processes_that_get_the_signal_at_any_moment_stop_after_the_same_step(tmp_path):
    options = ('--signal', 'TERM', '--ranks', 2, '--kills', 2, '--epochs', 2, '--seed', 1)
    output = commands.run(tmp_path, KILL, *options)
    assert '2 kills, 0 differences in ' in output


SLURM = """#!/usr/bin/env bash
echo "$(basename "$0") $*"
[ "$(basename "$0")" != srun ] || exit "$STATUS"
"""


def slurm_train(tmp_path, **environment):
    """What tools/slurm_train.sh starts, one command a line, where Slurm does nothing."""
    for name in ('srun', 'scontrol'):
        (tmp_path / name).write_text(SLURM)
        (tmp_path / name).chmod(0o755)
    run = subprocess.run(
        ['bash', ROOT / 'tools/slurm_train.sh', 'P', 'J', 'config.py', '--amp'],
        env={'PATH': f'{tmp_path}:{os.environ["PATH"]}', **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout.splitlines()


def test_slurm_warns_a_training_of_its_end_and_a_batch_job_is_queued_again(tmp_path):
    status, [command, requeue] = slurm_train(tmp_path, STATUS='143', SLURM_JOB_ID='7')
    assert status == 143
    assert requeue == 'scontrol requeue 7'
    assert ' --signal=TERM@120 ' in command
    assert command.endswith('config.py --launcher slurm --amp')


def test_a_job_that_was_queued_again_resumes(tmp_path):
    environment = dict(STATUS='0', SLURM_JOB_ID='7', SLURM_RESTART_COUNT='1')
    status, [command] = slurm_train(tmp_path, **environment)
    assert status == 0
    assert command.endswith('config.py --launcher slurm --amp --resume')


@pytest.mark.parametrize('environment', [dict(STATUS='1', SLURM_JOB_ID='7'), dict(STATUS='143')])
def test_a_training_that_fails_or_runs_in_a_terminal_is_not_queued_again(tmp_path, environment):
    status, commands = slurm_train(tmp_path, **environment)
    assert status == int(environment['STATUS'])
    assert len(commands) == 1
