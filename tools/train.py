"""Trains the method that a config describes."""

import argparse
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.runner import Runner, find_latest_checkpoint

from sen_toolbox.config import load_config
from sen_toolbox.distributed import finish_launch, prepare_launch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, for instance configs/sen/sen_vitb_cuhk.py')
    parser.add_argument('--work-dir', help='logs and checkpoints; default work_dirs/<config name>')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='continue from the newest checkpoint of the work dir, or from the one given',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='float16',
        choices=['float16', 'bfloat16'],
        help='mixed precision; float16 if no type is given',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override existing config values, for instance batch_size=64',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by launchers'
    )
    return parser.parse_args()


def prepare(args: argparse.Namespace) -> Config:
    """The config with the command line applied."""
    config = load_config(args.config, args.cfg_options)
    config.work_dir = args.work_dir or config.work_dir or f'work_dirs/{Path(args.config).stem}'
    config.launcher = args.launcher
    if args.amp:
        config.optim_wrapper.update(type='AutocastOptimWrapper', dtype=args.amp)
    if args.resume == 'auto':
        config.resume = find_latest_checkpoint(config.work_dir) is not None
    elif args.resume:
        config.resume, config.load_from = True, args.resume
    if config.resume:
        # The checkpoint brings the weights; the pretrained file may be gone.
        config.model.backbone.pretrained = None
    return config


def main() -> None:
    args = parse_args()
    config = prepare(args)
    prepare_launch(config)
    Runner.from_cfg(config).train()
    finish_launch()


if __name__ == '__main__':
    main()
