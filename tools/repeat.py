"""Trains configs with several seeds, tests them and lays out mean and spread.

What train_seeds.py, ablate_sen.py and compare_methods.py share. Every training and every test is a
process of its own; a test leaves results.json, and what has one is not done again. A training that
was interrupted goes on from its last checkpoint; Ctrl-C and SIGTERM let it write one. A run that
fails is named, and the others go on.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO

from mmengine.config import Config

from sen_toolbox.config import load_config
from sen_toolbox.evaluation.results import write_results
from sen_toolbox.messages import one_line
from sen_toolbox.signals import StopSignals

TOOLS = Path(__file__).parent
MEASURES = ('t2i/R1', 't2i/mAP', 't2i/mINP', 'i2t/R1', 'i2t/mAP')
Metrics = dict[str, float]
Find = dict[str, Callable[[Path], Path]]
# What failed in this process and why, for the end of the report.
failures: list[str] = []


def without_validation(config: Config) -> Config:
    """Takes the validation out of a config, so that the last epoch counts."""
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    config.train_cfg.pop('val_interval', None)
    hook = config.default_hooks.checkpoint
    hook.max_keep_ckpts = 1
    for key in ('save_best', 'rule'):
        hook.pop(key, None)
    return config


def write_config(config: Config, path: Path) -> Path:
    """Writes a composed config, or finds that it is the one already there.

    Raises:
        SystemExit: If the folder holds results of another config.
    """
    text = config.pretty_text
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
    elif path.read_text(encoding='utf-8') != text:
        sys.exit(f'{path} is of other options: delete it and its results or choose another folder')
    return path


def metrics_in(work_dir: Path) -> Metrics | None:
    """Metrics that a test left in its folder; None if there are none yet."""
    path = work_dir / 'results.json'
    if not path.exists():
        return None
    [evaluation] = json.loads(path.read_text(encoding='utf-8'))['evaluations']
    return evaluation['metrics']


def train(config: Path, work_dir: Path, seed: int) -> bool:
    """Trains, or continues, with one seed; tells whether it succeeded."""
    options = ('--cfg-options', f'randomness.seed={seed}')
    return _run('train.py', config, '--work-dir', work_dir, '--resume', *options)


def test(config: Path, checkpoint: Path | None, work_dir: Path) -> Metrics | None:
    """Metrics on the test split, of the pretrained weights without a checkpoint; None if failed."""
    given = [] if checkpoint is None else [checkpoint]
    return metrics_in(work_dir) if _run('test.py', config, *given, '--work-dir', work_dir) else None


def last_checkpoint(work_dir: Path) -> Path:
    """The checkpoint of the last epoch."""
    # The file names the folder of the training, which may have been moved.
    return work_dir / Path((work_dir / 'last_checkpoint').read_text().strip()).name


def best_checkpoint(work_dir: Path) -> Path:
    """The checkpoint that validation selected."""
    return max(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)


def train_and_test(config: Path, work_dir: Path, seed: int, find: Find) -> dict[str, Metrics]:
    """Metrics of one training on the test split.

    Args:
        config: Config file.
        work_dir: Folder of this training.
        seed: Decides weights, order and augmentations.
        find: For each name in the result, a function from the folder to the checkpoint.

    Returns:
        Metrics by the names of ``find``; those that failed are absent.
    """
    folders = {name: work_dir / f'test_{name}' for name in find}
    if None in map(metrics_in, folders.values()) and not train(config, work_dir, seed):
        return {}
    tested = {}
    for name, folder in folders.items():
        metrics = metrics_in(folder) or test(config, find[name](work_dir), folder)
        if metrics is not None:
            tested[name] = metrics
            print(f'=== {folder}: t2i R1 {metrics["t2i/R1"]:.2f}', flush=True)
    return tested


def compare(
    configs: dict[str, Path], start: Path | None, title: str, args: argparse.Namespace
) -> None:
    """Trains and tests each config with each seed and reports the last epochs.

    Args:
        configs: Config file of each row, by its name; its stem names the folder of its runs.
        start: Config whose pretrained weights are the row without fine-tuning, if there is one.
        title: Of the table.
        args: The parsed command line.
    """
    rows = {}
    if start is not None:
        folder = args.work_dir / 'no_fine_tuning'
        metrics = metrics_in(folder) or test(start, None, folder)
        rows['no fine-tuning'] = [] if metrics is None else [metrics]
    rows |= {name: [] for name in configs}
    # All rows of one seed first: an interrupted table still compares like with like.
    for seed in args.seeds:
        for name, config in configs.items():
            folder = args.work_dir / config.stem / f'seed_{seed}'
            rows[name] += train_and_test(config, folder, seed, {'last': last_checkpoint}).values()
    expected = len(configs) * len(args.seeds) + (start is not None)
    tested_on = load_config(next(iter(configs.values()))).test_dataloader.dataset
    report(rows, expected, f'{title}: last epoch, {tested_on.type} {tested_on.split}', args)


def mean_and_spread(values: list[float]) -> tuple[float, float | None]:
    """Mean, and the standard deviation of a sample if there are two values or more."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def spread_table(rows: dict[str, list[Metrics]], title: str) -> str:
    """Mean ± standard deviation of each row's runs, in Markdown."""
    lines = [title, '', f'| | runs | {" | ".join(MEASURES)} |', '|---' * (len(MEASURES) + 2) + '|']
    for name, runs in rows.items():
        cells = []
        for measure in MEASURES if runs else ():
            mean, spread = mean_and_spread([run[measure] for run in runs])
            cells.append(f'{mean:.2f}' if spread is None else f'{mean:.2f} ± {spread:.2f}')
        cells = cells or ['failed'] * len(MEASURES)
        lines.append(f'| {name} | {len(runs)} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def report(
    rows: dict[str, list[Metrics]], expected: int, title: str, args: argparse.Namespace
) -> None:
    """Prints the table and writes it with all values to WORK_DIR/summary.json.

    Raises:
        SystemExit: With status 1 if there are fewer results than expected.
    """
    print(spread_table(rows, title))
    summary = {}
    for name, runs in rows.items():
        summary[name] = {}
        for measure in MEASURES if runs else ():
            values = [run[measure] for run in runs]
            mean, spread = mean_and_spread(values)
            summary[name][measure] = dict(mean=mean, standard_deviation=spread, values=values)
    write_results(args.work_dir / 'summary.json', dict(title=title, seeds=args.seeds, rows=summary))
    missing = expected - sum(map(len, rows.values()))
    if failures:
        print('\n'.join(['', 'Failed:', *(f'- {failure}' for failure in failures)]), flush=True)
    if missing:
        sys.exit(f'{missing} of {expected} tests have no result; run again to repeat what failed')


def _run(tool: str, *arguments: object) -> bool:
    command = [sys.executable, str(TOOLS / tool), *map(str, arguments)]
    print(f'=== {" ".join(command[1:])}', flush=True)
    # The tools end with one line that says what is wrong.
    last: deque[str] = deque(maxlen=1)
    with (
        StopSignals() as signals,
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors='replace') as process,
    ):
        reader = Thread(target=_show, args=(process.stderr, last))
        reader.start()
        told = False
        # A training that is told to end saves first, for which subprocess.call would not wait.
        while (status := process.poll()) is None:
            if signals.received and not told:
                process.send_signal(signals.received)
                told = True
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.1)
        reader.join()
    if signals.received:
        sys.exit(128 + signals.received)
    if status:
        reason = f'ended by signal {-status}' if status < 0 else f'status {status}'
        reason = ': '.join([reason, *last])
        failures.append(f'{" ".join([tool, *map(str, arguments)])}: {reason}')
        print(f'=== {tool} failed ({reason}); run again to repeat it', flush=True)
    return status == 0


def _show(lines: IO[str], last: deque[str]) -> None:
    """Shows what a process writes as an error and keeps its last line."""
    for line in lines:
        print(line, end='', file=sys.stderr, flush=True)
        if line.strip():
            last.append(one_line(line))
