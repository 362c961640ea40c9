"""Check a data set on disk: counts, images, captions, known faults, and what to do about each.

Prints a report and, with --out, writes it whole as JSON. With --config also what a training by
that config lacks: words, weights, what it takes beside pictures and captions. Exit status:
0 nothing to repair, 1 faults, 2 not recognised.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sen_toolbox.command_line import read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', type=Path, help='folder of the data set')
    parser.add_argument('--type', help='dataset_type; by the annotation file if not given')
    parser.add_argument('--config', help='config that is to be trained on it')
    parser.add_argument('--out', type=Path, help='JSON file for the whole report')
    parser.add_argument(
        '--workers',
        type=int,
        default=min(8, os.cpu_count() or 1),
        help='threads that decode images; 0 to decode none',
    )
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

from mmengine.registry import Registry
from tqdm import tqdm

from sen_toolbox.config import load_config
from sen_toolbox.datasets.check import check_dataset, known_datasets, recognise
from sen_toolbox.messages import error_line, printable
from sen_toolbox.registry import DATASETS, IMAGE_ENCODERS, TEXT_ENCODERS

# Of the training split, that are prepared as the config says.
SAMPLES = 3


def main() -> None:
    args = parse_args()
    known = known_datasets()
    if args.type and args.type not in known:
        stop(f'there is no data set {args.type!r}, choose from {", ".join(known)}')
    dataset = known[args.type] if args.type else recognise(args.data_root)
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
    missing = lacking(args.config, args.data_root) if args.config else []
    for text in missing:
        print(printable(f'{args.config} lacks: {text}'))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
        args.out.write_text(text, encoding='utf-8')
        print(printable(f'report: {args.out}'))
    sys.exit(int(report.has_faults or bool(missing)))


def lacking(path: str, data_root: Path) -> list[str]:
    """What a training by the config at ``path`` would end with at once, as it begins one."""
    config = load_config(path, dict(data_root=str(data_root)))
    begin = [partial(read_samples, config.train_dataloader.dataset)]
    for registry, name in ((IMAGE_ENCODERS, 'image'), (TEXT_ENCODERS, 'text')):
        if name in config.model.backbone:
            begin.append(partial(load_encoder, registry, config.model.backbone[name]))
    found = []
    for attempt in begin:
        try:
            attempt()
        except (OSError, ValueError, KeyError, ImportError) as error:
            found.append(error_line(error))
    # Both what reads captions and what encodes them may take the same file.
    return list(dict.fromkeys(found))


def read_samples(dataset: dict) -> None:
    built = DATASETS.build(dataset)
    built.set_epoch(seed=0, epoch=0)
    for index in range(min(SAMPLES, len(built))):
        built[index]


def load_encoder(registry: Registry, encoder: dict) -> None:
    registry.build(encoder).load_weights()


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
