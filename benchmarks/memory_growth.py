"""Trains a tiny SEN for many steps and shows the memory of the process; it must not grow.

Reads ``RssAnon`` of Linux, so that pages of mapped files do not count. Fewer than a thousand steps
say little: the memory settles within the first few hundred.
"""

import statistics
import tempfile
from pathlib import Path

from common import Report, arguments
from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.config import load_config

CONFIG = 'configs/sen/sen_tiny_synthetic.py'
POINTS = 10
# MB a thousand steps; the lists and fragments of Python come and go by this much.
LIMIT = 2.0


class MemoryHook(Hook):
    """Notes the memory after every tenth of the steps; ends training with the last one's epoch."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.points = []

    def after_train_iter(self, runner: Runner, batch_idx: int, **kwargs: object) -> None:
        """Reads the memory and prints it."""
        if self.every_n_train_iters(runner, max(1, self.steps // POINTS)):
            self.points.append((runner.iter + 1, resident()))
            print('step {:5d}  {:8.1f} MB'.format(*self.points[-1]), flush=True)
        if runner.iter + 1 >= self.steps:
            runner.train_loop.stop_training = True


def resident() -> float:
    """MB of the process that no file backs."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('RssAnon'):
            return int(line.split()[1]) / 1e3
    raise SystemExit('this system does not say how much memory a process has')


def main() -> None:
    args = arguments(__doc__, steps=2000, batch=4)
    with tempfile.TemporaryDirectory() as root:
        config = load_config(
            CONFIG,
            {
                'data_root': f'{root}/drawn',
                'image_cache': f'{root}/cache',
                'work_dir': f'{root}/work',
                'num_workers': 0,
                'num_classes': 40,
                'batch_size': args.batch,
                'image_size': (64, 32),
                'pretrained': None,
                'max_epochs': 10**6,
            },
        )
        for split in ('train', 'val', 'test'):
            config[f'{split}_dataloader'].dataset.update(
                num_ids=dict(train=40, val=1, test=1), image_size=(64, 32)
            )
        config.train_cfg.val_interval = 10**6
        config.default_hooks.logger.interval = 10**6
        config.default_hooks.checkpoint.interval = -1
        runner = Runner.from_cfg(config)
        hook = MemoryHook(args.steps)
        runner.register_hook(hook)
        runner.train()
    # The first points fill caches; medians, because the garbage of a while stands out at times.
    middle, last = hook.points[2:5], hook.points[-3:]
    start, end = middle[1][0], last[1][0]
    before, after = (statistics.median(memory for _, memory in part) for part in (middle, last))
    growth = 1000 * (after - before) / (end - start)
    report = Report(f'Memory over {args.steps} training steps')
    report.add(f'growth from step {start} to {end}, for 1,000 steps', growth, None, 'MB')
    report.check('memory early and late, MB for 1,000 steps', growth, LIMIT)
    report.finish(args.json)


if __name__ == '__main__':
    main()
