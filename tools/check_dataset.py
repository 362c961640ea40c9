"""Check a data set on disk: counts, images, captions, known faults, and what to do about each.

Prints a report and, with --out, writes it whole as JSON. Exit status: 0 nothing to repair,
1 faults, 2 not recognised.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from sen_toolbox.command_line import run_main, tool_parser
from sen_toolbox.datasets.check import check_dataset, known_datasets, recognise
from sen_toolbox.messages import printable


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', type=Path, help='folder of the data set')
    parser.add_argument(
        '--type', choices=known_datasets(), help='dataset_type; by the annotation file if not given'
    )
    parser.add_argument('--out', type=Path, help='JSON file for the whole report')
    parser.add_argument(
        '--workers',
        type=int,
        default=min(8, os.cpu_count() or 1),
        help='threads that decode images; 0 to decode none',
    )
    return parser.parse_args(arguments)


def main() -> None:
    args = parse_args()
    dataset = known_datasets()[args.type] if args.type else recognise(args.data_root)
    if dataset is None:
        stop(not_recognised(args.data_root))
    with tqdm(desc='decode images', unit='image', file=sys.stderr, disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update()

        try:
            report = check_dataset(args.data_root, dataset, workers=args.workers, progress=progress)
        except FileNotFoundError as error:
            stop(str(error))
    print(report.to_text())
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
        args.out.write_text(text, encoding='utf-8')
        print(printable(f'report: {args.out}'))
    sys.exit(int(report.has_faults))


def not_recognised(root: Path) -> str:
    names = [name for cls in known_datasets().values() for name in cls.ANNOTATION_FILES]
    message = f'{root} holds no annotation file that is known: {", ".join(dict.fromkeys(names))}'
    if root.is_dir():
        inside = [str(child) for child in sorted(root.iterdir()) if recognise(child)]
        message += f'; give one of {", ".join(inside)}' if inside else ''
    return message


def stop(message: str) -> None:
    print(printable(f'error: {message}'), file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
    run_main(main)
