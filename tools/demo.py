"""Draws people, trains SEN on them from the shipped tiny towers, evaluates and shows the result.

Runs on two CPU cores in minutes. Each step that is done is not done again; delete work_dirs/demo
to start over.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from prettytable import PrettyTable

from sen_toolbox.command_line import run_main, tool_parser

TOOLS = Path(__file__).parent
SEN = 'configs/sen/sen_tiny_synthetic.py'


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument('--data-root', type=Path, default=Path('data/synthetic'))
    return parser.parse_args(arguments)


def run(title: str, script: str, *arguments: object) -> None:
    """Runs a tool as a user would; stops the demo with its exit status if it fails."""
    print(f'\n=== {title}', flush=True)
    started = time.perf_counter()
    status = subprocess.call([sys.executable, TOOLS / script, *map(str, arguments)])
    if status:
        sys.exit(status)
    print(f'=== {title}: {time.perf_counter() - started:.0f} s', flush=True)


def train(title: str, config: str, work_dir: Path, *options: str) -> None:
    """Trains unless done, continues if interrupted."""
    done = work_dir / 'done'
    if not done.exists():
        run(
            title, 'train.py', config, '--work-dir', work_dir, '--resume', '--cfg-options', *options
        )
        done.touch()


def best(work_dir: Path) -> Path:
    """The checkpoint with the highest validation R1."""
    return max(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)


def test(title: str, work_dir: Path, checkpoint: list[Path], *options: str) -> dict:
    """Tests SEN, or without a checkpoint the towers it starts from; returns the metrics."""
    quiet = ('--cfg-options', 'log_level=WARNING', *options)
    run(title, 'test.py', SEN, *checkpoint, '--work-dir', work_dir, *quiet)
    [evaluation] = json.loads((work_dir / 'results.json').read_text())['evaluations']
    return evaluation['metrics']


def before_and_after(before: dict[str, float], after: dict[str, float]) -> str:
    """One table of both, with what the training has gained."""
    table = PrettyTable(
        ['', 'initialisation', 'SEN', 'gain'],
        title='People never seen in training, t2i: image by caption, i2t: caption by image',
        align='r',
    )
    for name in after:
        gain = f'{after[name] - before[name]:+.2f}'
        table.add_row([name, f'{before[name]:.2f}', f'{after[name]:.2f}', gain])
    return table.get_string()


def main() -> None:
    args = parse_args()
    run('Drawing people', 'make_synthetic.py', args.data_root)
    sen, tests = args.work_dir / 'sen', args.work_dir / 'test'
    data = f'data_root={args.data_root}'
    train('Training SEN', SEN, sen, data)
    before = test('Testing the initialisation', tests / 'initialisation', [], data)
    after = test('Testing SEN', tests / 'sen', [best(sen)], data)
    picture = args.work_dir / 'results.png'
    drawing = (SEN, best(sen), '--out', picture, '--cfg-options', data)
    run('Drawing the results', 'show_results.py', *drawing)
    print(before_and_after(before, after))
    print(f'picture: {picture.resolve()}')


if __name__ == '__main__':
    run_main(main)
