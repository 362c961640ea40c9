"""Kills a training again and again, resumes it, and compares the end with an undisturbed run.

Every victim is a process (or one for each rank) that runs tools/train.py and gets SIGKILL: half of
them at a random moment, the others while a checkpoint is being written. With --signal TERM all
processes, those that load data too, get SIGTERM and must end by themselves. To save the time that
importing takes, victims are forked from this process, which has imported all and computed nothing.

    python tests/kill_training.py --kills 20 --ranks 2
"""

import argparse
import json
import math
import os
import random
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from toy_data import run_tool, write_toy_config, write_toy_data

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.io import PARTIAL
from sen_toolbox.text.tokens import Tokens

# Epochs that differ in length, averaged weights, checkpoints within epochs, a line of the log for
# every step that averages over the steps before, a worker that lives on. The text tower is small
# because its vocabulary makes up most of a checkpoint.
OPTIONS = """
_base_ = './toy.py'
max_epochs = {epochs}
batch_size = {batch_size}
num_workers = 1
clip_arch = dict(text_cfg=dict(width=16))
randomness = dict(deterministic=True)
default_hooks = dict(
    logger=dict(interval=1),
    ema=dict(type='EMAHook', momentum=0.1),
    checkpoint=dict(every_iters=2))
"""
# Clock times, file places and texts that name them.
UNEQUAL = {'time', 'data_time', 'eta', 'cfg', 'experiment_name', 'last_ckpt', 'best_ckpt'}


def say(text: str) -> None:
    sys.stdout.write(f'{text}\n')
    sys.stdout.flush()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


class Victim:
    """tools/train.py in one process for each rank."""

    def __init__(self, config: Path, work_dir: Path, ranks: int, options: list[str]) -> None:
        self.pids = []
        port = free_port()
        sys.stdout.flush()
        for rank in range(ranks):
            pid = os.fork()
            if pid == 0:
                self._train(config, work_dir, ranks, rank, port, options)
            self.pids.append(pid)
        self.alive = set(self.pids)
        self.failed = False

    @staticmethod
    def _train(config, work_dir, ranks, rank, port, options) -> None:
        # A group of its own, so that its data workers die with it.
        os.setpgid(0, 0)
        log = os.open(f'{work_dir}_rank_{rank}.log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 1
        try:
            if ranks > 1:
                os.environ.update(
                    RANK=str(rank),
                    LOCAL_RANK=str(rank),
                    WORLD_SIZE=str(ranks),
                    MASTER_ADDR='127.0.0.1',
                    MASTER_PORT=str(port),
                )
                options = [*options, '--launcher', 'pytorch']
            run_tool('train', config, '--work-dir', work_dir, '--resume', *options)
            code = 0
        except SystemExit as stop:
            code = stop.code
        except BaseException as error:  # whatever it is, the child must not return
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            sys.stdout.flush()
            os._exit(code)

    def ended(self) -> bool:
        """Whether all processes have ended by themselves."""
        for pid in list(self.alive):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self.alive.remove(pid)
                self.failed |= status != 0
        return not self.alive

    def terminate(self) -> None:
        """Sends SIGTERM to all processes and waits for their end.

        Raises:
            RuntimeError: If they do not end as those that were told to.
        """
        for pid in self.alive:
            os.killpg(pid, signal.SIGTERM)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.alive]
        self.alive.clear()
        # By the signal itself before the training has begun, 0 after its last step.
        if -signal.SIGTERM not in codes and set(codes) - {0, 128 + signal.SIGTERM}:
            raise RuntimeError(f'a training ended with the statuses {codes}, see its log')

    def kill(self) -> None:
        # All groups at once, as a node that fails.
        for pid in self.pids:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in list(self.alive):
            os.waitpid(pid, 0)
        self.alive.clear()

    def finish(self) -> None:
        """Waits for the end.

        Raises:
            RuntimeError: If a process failed.
        """
        while not self.ended():
            if self.failed:
                self.kill()
                break
            time.sleep(0.01)
        if self.failed:
            raise RuntimeError(f'the training {self.pids} failed, see its log')


def kill_at(
    victim: Victim, work_dir: Path, steps: int, seconds: float, during_write: bool, gently: bool
) -> str | None:
    """Kills a number of steps and seconds after the start, or at the next write after that.

    Returns:
        What was hit; None if the training ended before.
    """
    before = len(logged(work_dir))
    while not victim.ended() and len(logged(work_dir)) < before + steps:
        time.sleep(0.02)
    end = time.monotonic() + seconds
    while not victim.ended():
        writing = any(name.endswith(PARTIAL) for name in listed(work_dir))
        if time.monotonic() > end and (writing or not during_write):
            victim.terminate() if gently else victim.kill()
            left = listed(work_dir)
            if partial := [name for name in left if name.endswith(PARTIAL)]:
                return f'writing {partial[0]}'
            return f'between writes, having {sorted(n for n in left if n.endswith(".pth"))}'
        time.sleep(0.0005)
    if victim.failed:
        raise RuntimeError('a training failed by itself, see its log')
    return None


def listed(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def differences(a: object, b: object, where: str = '') -> list[str]:
    """Places at which two nested values differ in any bit."""
    if isinstance(a, HistoryBuffer) and isinstance(b, HistoryBuffer):
        return differences(list(a.data), list(b.data), where)
    if isinstance(a, Tokens) and isinstance(b, Tokens):
        return differences(vars(a), vars(b), where)
    if isinstance(a, dict) and isinstance(b, dict):
        found = [f'{where}/{key} on one side only' for key in set(a) ^ set(b)]
        for key in set(a) & set(b):
            if str(key).rpartition('/')[2] not in UNEQUAL:
                found += differences(a[key], b[key], f'{where}/{key}')
        return found
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return [f'{where}: {len(a)} and {len(b)} items']
        pairs = enumerate(zip(a, b, strict=True))
        return [d for i, (x, y) in pairs for d in differences(x, y, f'{where}/{i}')]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    elif isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        same = np.array_equal(a, b, equal_nan=True)
    elif isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        same = math.isnan(b)
    else:
        same = type(a) is type(b) and a == b
    return [] if same else [f'{where}: {str(a)[:60]} and {str(b)[:60]}']


def logged(work_dir: Path) -> list[tuple[tuple, dict]]:
    """All lines of numbers of all attempts, by kind and step."""
    rows = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line at which it was killed
            rows.append((('train' if 'loss' in row else 'val', row['step']), row))
    return rows


def compare(reference: Path, work_dir: Path) -> list[str]:
    """What differs between two finished trainings."""
    names = [sorted(path.name for path in folder.glob('*.pth')) for folder in (reference, work_dir)]
    found = [f'files {names[0]} and {names[1]}'] if names[0] != names[1] else []
    for name in set(names[0]) & set(names[1]):
        pair = [load_checkpoint_file(str(folder / name)) for folder in (reference, work_dir)]
        for saved in pair:
            del saved['meta']['cfg'], saved['meta']['time'], saved['meta']['experiment_name']
        found += differences(*pair, name)
    expected, seen = dict(logged(reference)), logged(work_dir)
    found += [f'no log of {key}' for key in set(expected) - {key for key, _ in seen}]
    for key, row in seen:
        found += differences(expected.get(key), row, f'log {key}')
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--ranks', type=int, choices=[1, 2], default=1)
    parser.add_argument('--signal', choices=['KILL', 'TERM'], default='KILL')
    parser.add_argument('--epochs', type=int, default=3)
    parser.add_argument(
        '--by-iteration', action='store_true', help='no checkpoints by epoch; default both'
    )
    parser.add_argument('--amp', choices=['float16', 'bfloat16'], help='mixed precision')
    parser.add_argument('--seed', type=int, default=0, help='decides when to kill')
    parser.add_argument('--folder', type=Path, help='for data, logs and checkpoints, kept')
    args = parser.parse_args()
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
    torch.set_num_threads(1)  # small steps on several processes
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_toy_config(folder / 'toy.py', write_toy_data(folder / 'data'))
        config = folder / 'toy_killed.py'
        text = OPTIONS.format(epochs=args.epochs, batch_size=8 // args.ranks)
        if args.by_iteration:
            text += "default_hooks['checkpoint'] = dict(by_epoch=False, interval=2)\n"
        config.write_text(text)
        options = ['--amp', args.amp] if args.amp else []
        reference = folder / 'reference'
        began = time.monotonic()
        Victim(config, reference, args.ranks, options).finish()
        lines = len(logged(reference))
        say(f'undisturbed: {time.monotonic() - began:.1f} s, {lines} lines of log')
        found, kills, number = [], 0, 0
        while kills < args.kills or number == 0:
            number += 1
            work_dir, kills_before = folder / f'killed_{number}', kills
            while kills < args.kills:
                victim = Victim(config, work_dir, args.ranks, options)
                # Early enough to need many attempts; half of the attempts die while they start.
                steps = rng.choice([0, 0, 1, 2, 3, 4])
                hit = kill_at(
                    victim,
                    work_dir,
                    steps,
                    rng.uniform(0, 2),
                    kills % 2 == 1,
                    args.signal == 'TERM',
                )
                if hit is None:
                    break
                kills += 1
                say(f'kill {kills}: {hit}')
            else:
                Victim(config, work_dir, args.ranks, options).finish()
            different = compare(reference, work_dir)
            found += different
            for line in different[:20]:
                say(f'differs {line}')
            say(f'run {number}, killed {kills - kills_before} times: {len(different)} differences')
        last = (reference / 'last_checkpoint').read_text()
        size = len(load_checkpoint_file(last)['state_dict'])
        say(
            f'{kills} kills, {len(found)} differences in {size} weights, averaged weights, '
            'optimiser, schedules, histories of the log, its lines and the names of the files'
        )
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
