"""Trains several methods from the same pretrained towers and prints them in one table.

Mean and standard deviation over the seeds, on the test split after the last epoch, beside the
towers without fine-tuning. Methods with towers of another kind start from their own. Interrupted,
it goes on where it stopped; seeds may run side by side.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from repeat_arguments import add_arguments

from sen_toolbox.command_line import read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('checkpoint', help="checkpoint of the pretrained CLIP towers, or 'shipped'")
    parser.add_argument('configs', nargs='+', help='config files, one for each method')
    add_arguments(parser, Path('work_dirs/compare_methods'))
    args = parser.parse_args(arguments)
    if len({Path(config).name for config in args.configs}) < len(args.configs):
        parser.error('two configs have the same file name, by which their runs are kept apart')
    return args


read_first(__name__, parse_args)

from repeat import compare, without_validation, write_config

from sen_toolbox.config import load_config, pretrained_weights


def main() -> None:
    args = parse_args()
    paths, start = {}, None
    for source in args.configs:
        config = load_config(source, args.cfg_options)
        name = f'{Path(source).stem}, {config.max_epochs} epochs'
        path = args.work_dir / Path(source).name
        given = load_config(source, {**args.cfg_options, 'pretrained': args.checkpoint})
        if args.checkpoint in pretrained_weights(given.model.backbone):
            config, start = given, start or path
        else:
            name += ', own towers'
        paths[name] = write_config(without_validation(config), path)
    compare(paths, start, args.checkpoint, args)


if __name__ == '__main__':
    run_main(main)
