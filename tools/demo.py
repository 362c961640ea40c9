"""Draws people, pretrains tiny towers, trains SEN on them, evaluates it and shows the result.

Runs on two CPU cores. Each step that is done is not done again; delete work_dirs/demo to start
over.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sen_toolbox.evaluation import metrics_table

TOOLS = Path(__file__).parent
CLIP = 'configs/clip/clip_tiny_synthetic.py'
SEN = 'configs/sen/sen_tiny_synthetic.py'


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
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


def main() -> None:
    args = parse_args()
    pretraining = f'{args.data_root}_pretraining'
    run('Drawing people', 'make_synthetic.py', args.data_root)
    run('Drawing others to pretrain on', 'make_synthetic.py', pretraining, '--seed', 1)
    towers, sen, tests = (args.work_dir / name for name in ('clip', 'sen', 'test'))
    train('Pretraining the towers with InfoNCE', CLIP, towers, f'data_root={pretraining}')
    start = f'model.backbone.pretrained={best(towers)}'
    data = f'data_root={args.data_root}'
    train('Training SEN', SEN, sen, data, start)
    before = test('Testing the initialisation', tests / 'clip', [], data, start)
    after = test('Testing SEN', tests / 'sen', [best(sen)], data)
    picture = args.work_dir / 'results.png'
    drawing = (SEN, best(sen), '--out', picture, '--cfg-options', data)
    run('Drawing the results', 'show_results.py', *drawing)
    print(metrics_table(before, 'Initialisation, on people never seen in training'))
    print(metrics_table(after, 'SEN, on people never seen in training'))
    print(f'picture: {picture.resolve()}')


if __name__ == '__main__':
    main()
