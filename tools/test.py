"""Evaluates a checkpoint on the test split and prints the table."""

import argparse
from pathlib import Path

from mmengine.config import DictAction
from mmengine.runner import Runner

from sen_toolbox.config import load_config
from sen_toolbox.distributed import finish_launch, prepare_launch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='logs; default work_dirs/<config name>')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override existing config values, for instance test_dataloader.dataset.split=val',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by launchers'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    config.work_dir = args.work_dir or config.work_dir or f'work_dirs/{Path(args.config).stem}'
    config.launcher = args.launcher
    config.load_from, config.resume = args.checkpoint, False
    prepare_launch(config)
    Runner.from_cfg(config).test()
    finish_launch()


if __name__ == '__main__':
    main()
