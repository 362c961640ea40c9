"""Makes docs/model_zoo.md from docs/published_results.yml and the metafile.yml of the configs."""

import argparse
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

import yaml

from sen_toolbox.command_line import run_main, tool_parser

ROOT = Path(__file__).parents[1]
MEASURES = ('R1', 'R5', 'R10', 'mAP', 'mINP')
SHORT_NAMES = {'CUHK-PEDES': 'cuhk', 'ICFG-PEDES': 'icfg', 'RSTPReid': 'rstp'}
TRANSFERS = ('C to I', 'C to R', 'I to C', 'I to R', 'R to C', 'R to I')

HEAD = """# Model zoo

<!-- Made by tools/make_model_zoo.py from docs/published_results.yml and the metafiles. -->

Text-to-image retrieval on the test splits, in percent. All numbers but those that are marked "here"
are published by others. The papers mostly report the epoch that is best on the test split; the
configs here select on validation where there is one, so the two are not the same measurement.

- **Pretraining**: image-text pairs of persons beyond what the backbone was trained with.
- **Re-ranking**: a second model orders the candidates anew or changes the query, at many times the
  cost. Not comparable with methods that compare one embedding of each side.
- **Source**: the document in which the numbers were read, often that of another method. † marks
  secondary ones, read in notes about the document instead.
- **here**: R1 of this toolbox; "not run" where there is a config but no number, "-" where there is
  no config.
"""


def read_published(root: Path = ROOT) -> dict:
    """The published results."""
    return yaml.safe_load((root / 'docs/published_results.yml').read_text(encoding='utf-8'))


def find_configs(root: Path = ROOT) -> list[str]:
    """Every config of a method, as a path below the root."""
    return sorted(
        path.relative_to(root).as_posix()
        for pattern in ('configs/*/*.py', 'projects/*/configs/*.py')
        for path in root.glob(pattern)
        if '_base_' not in path.parts and path.name != 'official.py'
    )


def read_models(root: Path = ROOT) -> dict[str, dict]:
    """The models of all metafiles by their config."""
    models = {}
    for pattern in ('configs/*/metafile.yml', 'projects/*/metafile.yml'):
        for path in sorted(root.glob(pattern)):
            metafile = yaml.safe_load(path.read_text(encoding='utf-8'))
            models |= {model['Config']: model for model in metafile['Models']}
    return models


def results_of(model: dict, source: str) -> list[dict]:
    """A model's results with the source 'paper' or 'here'."""
    return [found for found in model.get('Results') or [] if found.get('Source') == source]


def row(cells: Iterable[object]) -> str:
    return f'| {" | ".join(str(cell) for cell in cells)} |'


def header(cells: list[str]) -> list[str]:
    return [row(cells), '|---' * len(cells) + '|']


def percent(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}'


def link(path: str, text: str | None = None) -> str:
    return f'[{text or Path(path).stem}](../{path})'


def source_link(source: dict) -> str:
    text = f'[{source["text"]}]({source["url"]})' if 'url' in source else source['text']
    return f'{text} †' if source.get('secondary') else text


def configs_for(method: dict, dataset: str, configs: list[str]) -> list[str]:
    """The configs of a method for a data set."""
    pattern = method.get('config', '').format(dataset=SHORT_NAMES[dataset])
    return [path for path in configs if fnmatch(path, pattern)]


def note_of(result: dict) -> str:
    """The note of a published result, and what the SEN README prints instead."""
    notes = [result['note']] if 'note' in result else []
    if 'misprinted' in result:
        printed = ', '.join(f'{name} {value:.2f}' for name, value in result['misprinted'].items())
        notes.append(f'corrected: the SEN README prints {printed}')
    return '; '.join(notes)


def dataset_table(
    dataset: str, published: dict, configs: list[str], models: dict[str, dict]
) -> list[str]:
    """All methods on one data set by rising R1."""
    titles = ['Method', 'Backbone', 'Pretraining', 'Re-ranking', *MEASURES]
    lines = header([*titles, 'Source', 'here', 'Note'])
    for result in sorted(published['results'][dataset], key=lambda result: result['numbers'][0]):
        method = published['methods'][result['method']]
        ours = configs_for(method, dataset, configs)
        runs = [run for path in ours for run in results_of(models.get(path, {}), 'here')]
        found = [percent(run['Metrics']['R1']) for run in runs if run['Dataset'] == dataset]
        lines.append(
            row(
                [
                    link(ours[0], result['method']) if ours else result['method'],
                    method['backbone'],
                    method.get('pretraining', 'no'),
                    method.get('reranking', 'no'),
                    *map(percent, result['numbers']),
                    source_link(published['sources'][result['source']]),
                    ', '.join(found) or ('not run' if ours else '-'),
                    note_of(result),
                ]
            )
        )
    return lines


def transfer_table(published: dict) -> list[str]:
    """Published results of training on one data set and testing on another."""
    lines = header(['Method', *TRANSFERS, 'Source'])
    for result in published['cross_domain']:
        cells = [f'{r1:.2f} / {mean:.2f}' for r1, mean in result['numbers']]
        source = source_link(published['sources'][result['source']])
        lines.append(row([result['method'], *cells, source]))
    return lines


def config_table(configs: list[str], models: dict[str, dict]) -> list[str]:
    """Every config with the paper's numbers and those measured here."""
    lines = header(['Config', 'Data set', 'Numbers', *MEASURES, 'Note'])
    for path in configs:
        model = models.get(path, {})
        results = [*results_of(model, 'paper'), *results_of(model, 'here')]
        unknown = '' if results_of(model, 'here') else 'here: not run'
        if unknown and path.endswith('_tiny_synthetic.py'):
            unknown = 'here: [the results](results.md)'
        for result in results or [{}]:
            numbers = [percent(result.get('Metrics', {}).get(name)) for name in MEASURES]
            note = '; '.join(filter(None, (result.get('Note'), unknown)))
            where = [result.get('Dataset', ''), result.get('Source', '')]
            lines.append(row([link(path), *where, *numbers, note]))
    return lines


def missing_table(published: dict, configs: list[str]) -> list[str]:
    """What the methods that have no config would need."""
    lines = header(['Method', 'What it would need'])
    for name, method in published['methods'].items():
        here = any(configs_for(method, dataset, configs) for dataset in SHORT_NAMES)
        if 'needs' in method and not here:
            lines.append(row([name, method['needs']]))
    return lines


def notes_on_numbers(published: dict) -> list[str]:
    """The note of every published number, and what was left out."""
    lines = [
        f'- {result["method"]} on {dataset}: {note_of(result)}.'
        for dataset, results in published['results'].items()
        for result in results
        if note_of(result)
    ]
    return [*lines, *(f'- {text}' for text in published['left_out'])]


def make_page(root: Path = ROOT) -> str:
    """The page as Markdown."""
    published, configs, models = read_published(root), find_configs(root), read_models(root)
    lines = HEAD.splitlines()
    for dataset in published['results']:
        lines += ['', f'## {dataset}', *dataset_table(dataset, published, configs, models)]
    lines += [
        *('', '## Trained on one data set, tested on another'),
        'R1 / mAP; C is CUHK-PEDES, I ICFG-PEDES, R RSTPReid. Measure yours with',
        '`python tools/test.py CONFIG CHECKPOINT --datasets cuhk icfg rstp`.',
        *('', *transfer_table(published)),
        *('', '## Configs of this toolbox'),
        *config_table(configs, models),
        *('', '## Methods that are not here'),
        '"No public code found" does not prove that there is none.',
        *('', *missing_table(published, configs)),
        *('', '## Notes on the numbers'),
        *notes_on_numbers(published),
    ]
    return '\n'.join(lines) + '\n'


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('--out', type=Path, default=ROOT / 'docs/model_zoo.md')
    return parser.parse_args(arguments)


def main() -> None:
    args = parse_args()
    args.out.write_text(make_page(), encoding='utf-8')
    print(args.out)


if __name__ == '__main__':
    run_main(main)
