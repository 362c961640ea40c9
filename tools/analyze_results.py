"""Tells which words and attributes the queries of a test split fail on.

Writes OUT/analysis.json and OUT/analysis.png: R1 of the captions that mention a word or an
attribute, that are of like length, or name as many colours, with counts and 95 % intervals.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from sen_toolbox.command_line import add_cfg_options, read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--out', type=Path, default=Path('analysis'), help='folder to write to')
    parser.add_argument(
        '--min-count',
        type=int,
        default=20,
        help='captions that must have something in common to list it',
    )
    add_cfg_options(parser)
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

import torch
from prettytable import PrettyTable

from sen_toolbox.config import load_config
from sen_toolbox.evaluation.analysis import failure_report, first_right_ranks
from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.registry import DATASETS
from sen_toolbox.visualization.share_chart import draw_shares

# Words in the table and, of each attribute, in the picture.
MAX_WORDS = 12


def panels(report: dict) -> dict[str, list[dict]]:
    """What the picture shows, by panel."""
    attributes = {
        f'{group}, by word': words[:MAX_WORDS]
        for group, words in report['attributes'].items()
        if len(words) > 1
    }
    return {
        'captions that mention': report['groups'],
        'caption length in words': report['lengths'],
        'number of colour words': report['colours'],
        **attributes,
    }


def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    encoder = Encoder.from_config(config, args.checkpoint)
    dataset = DATASETS.build({**config.test_dataloader.dataset, 'pipeline': []})
    records = [dataset.get_data_info(index) for index in range(len(dataset))]
    pairs = [(text, record['person_id']) for record in records for text in record['captions']]
    captions, person_ids = zip(*pairs, strict=True)
    ranks = first_right_ranks(
        torch.from_numpy(encoder.embed_text(captions)),
        torch.from_numpy(encoder.embed_files([record['img_path'] for record in records])),
        torch.tensor(person_ids),
        torch.tensor([record['person_id'] for record in records]),
    )
    report = failure_report(captions, ranks.tolist(), min_count=args.min_count)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'analysis.json').write_text(json.dumps(report, indent=1), encoding='utf-8')
    overall = report['overall']
    title = (
        f'R1 of {overall["count"]} captions: {overall["R1"]:.1f} %; '
        'bars: 95 % intervals; orange: all of it below'
    )
    picture = draw_shares(panels(report), overall=overall['R1'], title=title)
    picture.save(args.out / 'analysis.png')

    table = PrettyTable(['word', 'captions', 'R1', '95 % interval'], align='r')
    table.align['word'] = 'l'
    for entry in report['words'][:MAX_WORDS]:
        interval = f'{entry["low"]:.1f} to {entry["high"]:.1f}'
        table.add_row([entry['name'], entry['count'], f'{entry["R1"]:.1f}', interval])
    print(
        f'R1 of all {overall["count"]} captions: {overall["R1"]:.1f}. Words that fail most surely:'
    )
    print(table)
    print(f'written: {(args.out / "analysis.json").resolve()}, analysis.png')


if __name__ == '__main__':
    run_main(main)
