"""Draw a set of pedestrians with captions, in the layout of CUHK-PEDES."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from sen_toolbox.command_line import run_main, tool_parser
from sen_toolbox.datasets.synthetic import DRAWN_IDS, write_synthetic_pedes


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        'root',
        type=Path,
        help='folder to write to; an unfinished set there is '
        'completed, one with other parameters is refused',
    )
    for split, number in DRAWN_IDS.items():
        parser.add_argument(f'--{split}', type=int, default=number, help='identities of this split')
    parser.add_argument('--images-per-id', type=int, default=4, help='views of each identity')
    parser.add_argument('--captions-per-image', type=int, default=2, help='captions of each view')
    parser.add_argument(
        '--brief-captions-per-image',
        type=int,
        default=0,
        help='captions of a few words that each view to train on has besides (default: none)',
    )
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        default=(128, 64),
        metavar=('ROWS', 'COLUMNS'),
        help='size of the images',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of everything')
    parser.add_argument(
        '--workers',
        type=int,
        default=None,
        help='processes to draw with; one for each processor, at most 8, if not given',
    )
    return parser.parse_args(arguments)


def main() -> None:
    args = parse_args()
    num_ids = dict(train=args.train, val=args.val, test=args.test)
    with tqdm(total=sum(num_ids.values()), unit='id', disable=None) as bar:
        try:
            annotations = write_synthetic_pedes(
                args.root,
                num_ids=num_ids,
                images_per_id=args.images_per_id,
                captions_per_image=args.captions_per_image,
                brief_captions_per_image=args.brief_captions_per_image,
                image_size=tuple(args.image_size),
                seed=args.seed,
                workers=args.workers,
                progress=lambda done, total: bar.update(),
            )
        except ValueError as error:
            raise SystemExit(f'error: {error}') from error
    print(annotations)


if __name__ == '__main__':
    run_main(main)
