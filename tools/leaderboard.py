"""Trains every method that has a tiny config on the drawn people and ranks them.

All start from the same shipped towers; methods with encoders of another kind from their own. Each
trains with seed 0 at the same few factors of its config's rate, of which validation chooses one.
With that one it trains with every seed, and the last epochs are tested. What has run is kept in
docs/leaderboard.json, from which docs/results.md and its picture are made; it does not run again
unless its config changes. Interrupted, it goes on where it stopped. Hours on two cores.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Sequence
from math import inf
from pathlib import Path

from sen_toolbox.command_line import read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('--only', nargs='+', metavar='NAME', help='configs by their file name')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/leaderboard'))
    parser.add_argument('--page', action='store_true', help='only make the page of what has run')
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

import numpy as np
from make_model_zoo import ROOT, header, link, percent, read_models, results_of, row
from mmengine.config import Config
from repeat import failures, last_checkpoint, mean_and_spread, test, train, write_config

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.config import load_config
from sen_toolbox.io import atomic_path
from sen_toolbox.visualization.curves import read_scalars
from sen_toolbox.visualization.share_chart import draw_shares

RECORDS, PAGE = ROOT / 'docs/leaderboard.json', ROOT / 'docs/results.md'
PICTURE = ROOT / 'docs/images/leaderboard.png'
FACTORS = (1.0, 2.0, 4.0)
MEASURES = ('t2i/R1', 't2i/mAP', 't2i/mINP', 'i2t/R1')
COSTS = ('factor', 's per step', 'million numbers')
NOT_RUN = 'not run'
HEAD = """# Results on the drawn people

<!-- Made by tools/leaderboard.py from docs/leaderboard.json. -->

`make leaderboard` trains every method with its `*_tiny_synthetic.py` and tests the last epoch on
the 400 people of the test split, which no training sees: mean and standard deviation over seeds.
The factor of the rate, out of {factors}, is the one with the best validation R1 of seed 0. Drawn
people tell whether a method is built and trained rightly, not which is best on photographs.
"s per step" is the shortest step in the logs of the first seed, with the batch of the config, since
other work on the machine only lengthens steps.
"""


def find_methods(models: dict[str, dict]) -> dict[str, str]:
    """The tiny config of each method that has a metafile, by the name of the config."""
    return {Path(p).stem: p for p in sorted(models) if p.endswith('_tiny_synthetic.py')}


def tiny_config(path: str, factor: float) -> Config:
    """A method's config at a factor of its rate, validated once, at the end."""
    config = load_config(ROOT / path)
    config.optim_wrapper.optimizer.lr *= factor
    config.train_cfg.val_interval = config.train_cfg.max_epochs
    return config


def digest_of(path: str) -> str:
    """Tells one state of a method's config, the shipped towers and the factors from another."""
    found = hashlib.sha256(tiny_config(path, 1.0).pretty_text.encode())
    found.update(repr(FACTORS).encode())
    for towers in sorted((ROOT / 'sen_toolbox/models/towers').iterdir()):
        found.update(towers.read_bytes())
    return found.hexdigest()[:16]


def read_records(path: Path = RECORDS) -> dict[str, dict]:
    """What has run, by the name of the config; nothing if there is no such file."""
    return json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}


def write_records(records: dict[str, dict], path: Path = RECORDS) -> None:
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(records, indent=1, sort_keys=True) + '\n', encoding='utf-8')


def run_method(name: str, path: str, record: dict, args: argparse.Namespace) -> bool:
    """Trains and tests what the record lacks, and adds it; tells whether all succeeded."""
    if record.get('digest') != digest_of(path):
        record.clear()
        record.update(digest=digest_of(path), validation={}, tests={})
    if is_whole(record) and record['tests'].keys() >= set(map(str, args.seeds)):
        return True
    if not pretrained(path):
        return False
    for factor in FACTORS:
        if str(factor) not in record['validation']:
            folder = trained(name, path, factor, 0, args)
            if folder is None:
                return False
            rows = read_scalars(folder)
            record['validation'][str(factor)] = [r for r in rows if 't2i/R1' in r][-1]['t2i/R1']
            # Whatever else runs on the machine only adds to it.
            times = [r['time'] for r in rows if 'iter' in r]
            record['seconds_per_step'] = min([record.get('seconds_per_step', inf), *times])
            state = load_checkpoint_file(str(last_checkpoint(folder)))['state_dict']
            record['parameters'] = sum(value.numel() for value in state.values())
    factor = chosen_factor(record)
    for seed in args.seeds:
        if str(seed) not in record['tests']:
            folder = trained(name, path, factor, seed, args)
            config = args.work_dir / name / f'{factor}.py'
            metrics = folder and test(config, last_checkpoint(folder), folder / 'test')
            if not metrics:
                return False
            record['tests'][str(seed)] = {measure: metrics[measure] for measure in MEASURES}
    return True


def pretrained(path: str) -> bool:
    """Pretrains what a method starts from, unless it is shipped; tells whether it is there."""
    starts = re.findall(r'work_dirs/(\w+_tiny_world)/', tiny_config(path, 1.0).pretty_text)
    return all(train(config_named(start), Path('work_dirs') / start, 0) for start in set(starts))


def config_named(name: str) -> Path:
    """The config with a file name, wherever it is."""
    [path] = (
        found for top in ('configs', 'projects') for found in (ROOT / top).rglob(f'{name}.py')
    )
    return path


def trained(
    name: str, path: str, factor: float, seed: int, args: argparse.Namespace
) -> Path | None:
    """The folder of a training that has ended; None if it failed."""
    config = write_config(tiny_config(path, factor), args.work_dir / name / f'{factor}.py')
    folder = args.work_dir / name / f'{factor}_seed_{seed}'
    return folder if train(config, folder, seed) else None


def chosen_factor(record: dict) -> float:
    """The factor with the best validation, the smaller of equals."""
    return max(FACTORS, key=lambda factor: (record['validation'][str(factor)], -factor))


def published_r1(model: dict, models: dict[str, dict]) -> float | None:
    """R1 on CUHK-PEDES that the paper of a tiny config's method gives."""
    for other in models.values():
        if other['In Collection'] == model['In Collection']:
            for result in results_of(other, 'paper'):
                if result['Dataset'] == 'CUHK-PEDES':
                    return result['Metrics']['R1']
    return None


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's: the correlation of the ranks, equal values sharing the mean of theirs.

    >>> rank_correlation([1, 2, 3], [10, 20, 90]), rank_correlation([1, 2, 3], [3, 2, 1])
    (1.0, -1.0)
    """
    ranks = []
    for values in (np.asarray(first), np.asarray(second)):
        below = (values[:, None] > values).sum(1)
        ranks.append(below + ((values[:, None] == values).sum(1) - 1) / 2)
    return round(float(np.corrcoef(*ranks)[0, 1]), 12)


def is_whole(record: dict) -> bool:
    """Whether a method has been tested at all with the factor of its rate chosen."""
    return record.get('validation', {}).keys() >= set(map(str, FACTORS)) and bool(record['tests'])


def make_page(records: dict[str, dict], models: dict[str, dict]) -> str:
    """The page as Markdown: methods by falling mean R1, then those that have not run."""
    methods = find_methods(models)
    lines = HEAD.format(factors=', '.join(map(str, FACTORS))).splitlines()
    if any(map(is_whole, records.values())):
        lines += ['', '![mean and spread of each method](images/leaderboard.png)']
    titles = [
        'Method',
        'runs',
        *MEASURES,
        'factor',
        's per step',
        'numbers, M',
        'paper, CUHK-PEDES',
    ]
    lines += ['', *header(titles)]
    scores, spreads, papers = {}, [], {}
    rows = {}
    for name, path in methods.items():
        paper, record = published_r1(models[path], models), records.get(name, {})
        if not is_whole(record):
            rows[name] = [link(path), 0, *[NOT_RUN] * (len(titles) - 3), percent(paper)]
            continue
        runs, cells = list(record['tests'].values()), []
        for measure in MEASURES:
            mean, spread = mean_and_spread([run[measure] for run in runs])
            cells.append(f'{mean:.2f}' if spread is None else f'{mean:.2f} ± {spread:.2f}')
            if measure == 't2i/R1':
                scores[name] = mean
                spreads += [] if spread is None else [spread]
        if paper is not None:
            papers[name] = paper
        size, seconds = record['parameters'] / 1e6, record['seconds_per_step']
        cost = [chosen_factor(record), f'{seconds:.2f}', f'{size:.1f}']
        rows[name] = [link(path), len(runs), *cells, *cost, percent(paper)]
    lines += [row(rows[name]) for name in sorted(rows, key=lambda n: -scores.get(n, -1))]
    if spreads and len(scores) > 1 and any(spreads):
        deviation = float(np.sqrt(np.mean(np.square(spreads))))
        apart = (max(scores.values()) - min(scores.values())) / deviation
        lines += [
            '',
            f'Best minus worst: {apart:.1f} standard deviations of a method over its seeds.',
        ]
    if len(papers) > 2:
        found = rank_correlation([scores[name] for name in papers], list(papers.values()))
        lines += [
            '',
            f'Rank correlation (Spearman) with the R1 on CUHK-PEDES that the papers of these '
            f'{len(papers)} methods give: {found:.2f}.',
        ]
    return '\n'.join(lines) + '\n'


def draw(records: dict[str, dict]) -> None:
    """The picture: a dot at each mean, a bar of one standard deviation on both sides."""
    entries = []
    for name, record in records.items():
        if is_whole(record):
            mean, spread = mean_and_spread([run['t2i/R1'] for run in record['tests'].values()])
            low, high = mean - (spread or 0), mean + (spread or 0)
            short = name.removesuffix('_tiny_synthetic')
            entries.append(
                dict(name=short, count=len(record['tests']), R1=mean, low=low, high=high)
            )
    if entries:
        entries.sort(key=lambda entry: -entry['R1'])
        middle = float(np.mean([entry['R1'] for entry in entries]))
        # One panel is narrow.
        title = 'Text-to-image R1, mean and spread (runs)'
        draw_shares({' ': entries}, overall=middle, title=title).save(PICTURE)


def main() -> None:
    args = parse_args()
    models, records = read_models(), read_records()
    methods = find_methods(models)
    if unknown := set(args.only or ()) - methods.keys():
        raise ValueError(f'no such tiny config: {sorted(unknown)}; there are {list(methods)}')
    failed = []
    for name in () if args.page else (args.only or methods):
        try:
            if not run_method(name, methods[name], records.setdefault(name, {}), args):
                failed.append(name)
        finally:
            # Ctrl-C, too, ends it here.
            write_records(records)
    PAGE.write_text(make_page(records, models), encoding='utf-8')
    draw(records)
    print(f'page: {PAGE}')
    if failed:
        reasons = '; '.join(failures)
        raise ValueError(f'{", ".join(failed)} failed, run again to repeat them: {reasons}')


if __name__ == '__main__':
    run_main(main)
