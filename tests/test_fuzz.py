"""The short form of tests/fuzz, and whether it notices what it is there to notice."""

import ctypes
import logging
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.fuzz import run as runner
from tests.fuzz.outcome import attempt
from tests.fuzz.run import run
from tests.fuzz.targets import TARGETS

# Mutants of each; the hand-made samples have tests of their own.
CASES = dict(
    images=4, checkpoints=30, model_files=10, onnx_files=50, index_folders=5, caches=10,
    annotations=10, page_requests=40,
)  # fmt: skip
# Behind all hand-made samples.
MUTANTS = 10**6


def test_every_target_has_a_short_form():
    assert CASES.keys() == TARGETS.keys()


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_nothing_runs_leaks_or_is_wrong(tmp_path, name):
    result = run(TARGETS[name](), tmp_path, seed=0, cases=CASES[name], first=MUTANTS)
    assert result.findings == []
    assert result.cases == CASES[name]
    assert result.refused > 0


class Looking:
    """A target whose only case does something."""

    addresses = ()

    def __init__(self, do):
        self.hostile = {'it': do}

    def __call__(self, samples):
        self.samples = samples
        return self

    def check(self, do, folder):
        do()
        return True


def open_in_c(name):
    libc = ctypes.CDLL(None)
    os.close(libc.open(name.encode(), os.O_RDONLY))


def connect():
    with socket.socket() as client:
        client.connect_ex(('127.0.0.1', 9))


def fail_in_a_thread():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()


def refuse(text):
    def raise_it():
        raise ValueError(text)

    return lambda: attempt(raise_it, ['a.pth'])


DEEDS = {
    'a command': (lambda: os.system('true'), 'ran os.system'),
    'a program': (lambda: subprocess.run(['true']), 'ran subprocess.Popen'),
    'a planted package': (lambda: __import__('evil.registry'), 'imported evil'),
    'reading': (lambda: open('/etc/passwd').close(), "opened '/etc/passwd' to read"),
    'reading in C': (lambda: open_in_c('secret.json'), 'touched secret.json of the user'),
    'writing': (lambda: open('victim.txt', 'w').close(), "opened 'victim.txt' to write"),
    'deleting': (lambda: os.remove('victim.txt'), 'os.remove'),
    'a connection': (connect, 'connected: socket.connect'),
    'a name that is looked up': (
        lambda: pytest.raises(OSError, socket.getaddrinfo, 'x.invalid', 80), 'socket.getaddrinfo'
    ),
    'a traceback': (lambda: 1 / 0, 'ZeroDivisionError'),
    'a traceback of a thread': (fail_in_a_thread, 'a thread raised ZeroDivisionError'),
    'an error that is logged': (lambda: logging.getLogger('x').error('no'), 'no'),
    'a case without an end': (lambda: time.sleep(60), 'takes more than 0.1 s'),
    'another kind of error': (
        lambda: attempt(lambda: {}['x'], ['a.pth']), 'raised KeyError'
    ),
    'two lines': (refuse('a.pth\nis bad'), 'a message of several lines'),
    'control characters': (refuse('a.pth \x1b[2J'), 'control characters'),
    'no name': (refuse('it is bad'), "a message without ['a.pth']"),
}  # fmt: skip


@pytest.mark.parametrize('deed', DEEDS)
def test_what_a_sample_must_not_do_is_noticed(tmp_path, monkeypatch, deed):
    if deed == 'reading in C' and not sys.platform.startswith('linux'):
        pytest.skip('inotify is of Linux')
    monkeypatch.setattr(runner, 'CASE_SECONDS', 0.1 if 'end' in deed else 30)
    sys.modules.pop('evil', None)
    do, told = DEEDS[deed]
    result = run(Looking(do), tmp_path, seed=0, cases=1)
    [finding] = result.findings
    assert told in finding
    assert (tmp_path / 'outside/victim.txt').read_text() == 'years of work'
    assert not (tmp_path / 'outside/harmed').exists()


def test_a_sample_may_do_as_it_likes_in_its_own_folder(tmp_path):
    def work():
        os.mkdir('../case/a')
        with open('../case/a/b', 'w') as file:
            file.write('x')
        os.replace('../case/a/b', '../case/c')
        attempt(lambda: open('../case/none'), ['none'])

    assert run(Looking(work), tmp_path, seed=0, cases=1).findings == []
