"""Trains SEN with one part switched off at a time and prints what each part is worth.

Every variant starts from the same pretrained towers and runs with several seeds; the table gives
mean and standard deviation on the test split after the last epoch, beside the towers alone.
Interrupted, it goes on where it stopped; seeds may run side by side.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from repeat_arguments import add_arguments

from sen_toolbox.command_line import read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('pretrained', help="checkpoint of the pretrained towers, or 'shipped'")
    parser.add_argument('--config', default='configs/sen/sen_tiny_synthetic.py')
    add_arguments(parser, Path('work_dirs/ablate_sen'))
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

from mmengine.config import Config
from repeat import compare, without_validation, write_config

from sen_toolbox.config import load_config

HEADS = ('restoration', 'triplet')
TRANSFORMS = ('PruneCaption', 'MaskWords')
FULL = 'SEN'
PARTS = (FULL, *HEADS, *TRANSFORMS)


def without(config: Config, part: str) -> Config:
    """Takes a head or a transform out of a config."""
    if part in HEADS:
        del config.model.heads[part], config.model.loss_weights[part]
    elif part in TRANSFORMS:
        dataset = config.train_dataloader.dataset
        dataset.pipeline = [step for step in dataset.pipeline if step['type'] != part]
    return config


def main() -> None:
    args = parse_args()
    paths = {}
    for part in PARTS:
        config = load_config(args.config, {'pretrained': args.pretrained, **args.cfg_options})
        config = without_validation(without(config, part))
        name = part if part == FULL else f'without {part}'
        paths[name] = write_config(config, args.work_dir / f'{name.replace(" ", "_")}.py')
    compare(paths, paths[FULL], args.config, args)


if __name__ == '__main__':
    run_main(main)
