"""Draws the learning curves of one or several runs as one picture."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sen_toolbox.command_line import read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('runs', nargs='+', type=Path, help='work dirs, or files scalars.json')
    parser.add_argument(
        '--keys',
        nargs='+',
        help='what to draw, e.g. loss sdm.loss t2i/R1; default: losses, learning rate, R1, mAP',
    )
    parser.add_argument('--names', nargs='+', help='names of the runs; default: of their folders')
    parser.add_argument('--out', type=Path, default=Path('curves.png'), help='picture to write')
    args = parser.parse_args(arguments)
    args.names = args.names or [path.name if path.is_dir() else str(path) for path in args.runs]
    if len(set(args.names)) != len(args.runs):
        parser.error(f'{len(args.runs)} runs need as many different names: --names A B ...')
    return args


read_first(__name__, parse_args)

from sen_toolbox.visualization.curves import default_keys, draw_learning_curves, read_scalars


def main() -> None:
    args = parse_args()
    runs = {name: read_scalars(path) for name, path in zip(args.names, args.runs, strict=True)}
    keys = args.keys or default_keys(runs)
    title = 'Learning curves' if len(runs) > 1 else args.names[0]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw_learning_curves(runs, keys=keys, title=title).save(args.out)
    print(f'picture: {args.out.resolve()}')


if __name__ == '__main__':
    run_main(main)
