"""Trains a config with several seeds and prints mean and standard deviation on the test split.

Each training is tested with the epoch that validation selected and with the last one. Interrupted,
it goes on where it stopped. Runs lie in WORK_DIR/seed_N (default
work_dirs/<config>_seeds), the table in WORK_DIR/summary.json.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from repeat_arguments import add_arguments

from sen_toolbox.command_line import read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file')
    add_arguments(parser, None)
    args = parser.parse_args(arguments)
    args.work_dir = args.work_dir or Path('work_dirs', f'{Path(args.config).stem}_seeds')
    return args


read_first(__name__, parse_args)

from repeat import (
    best_checkpoint,
    last_checkpoint,
    report,
    train_and_test,
    write_config,
)

from sen_toolbox.config import load_config


def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    path = write_config(config, args.work_dir / Path(args.config).name)
    names = {'last': 'last epoch'}
    find = {'last': last_checkpoint}
    if config.val_dataloader is not None:
        names['best'] = f'best epoch on {config.val_dataloader.dataset.split}'
        find['best'] = best_checkpoint
    rows = {name: [] for name in names.values()}
    for seed in args.seeds:
        tested = train_and_test(path, args.work_dir / f'seed_{seed}', seed, find)
        for found, metrics in tested.items():
            rows[names[found]].append(metrics)
    tested_on = config.test_dataloader.dataset
    expected = len(find) * len(args.seeds)
    report(rows, expected, f'{args.config} on {tested_on.type} {tested_on.split}', args)


if __name__ == '__main__':
    run_main(main)
