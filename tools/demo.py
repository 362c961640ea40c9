"""Draws people, pretrains tiny towers, trains SEN on them, evaluates it and shows the result.

Runs on two CPU cores. Each step that is done is not done again; delete work_dirs/demo to start
over.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from sen_toolbox.evaluation import metrics_table

TOOLS = Path(__file__).parent
CLIP = 'configs/clip/clip_tiny_synthetic.py'
SEN = 'configs/sen/sen_tiny_synthetic.py'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument('--data-root', type=Path, default=Path('data/synthetic'))
    return parser.parse_args()


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


def test(title: str, config: str, checkpoint: Path, work_dir: Path, *options: str) -> dict:
    """Evaluates a checkpoint on the test split; returns the metrics."""
    run(title, 'test.py', config, checkpoint, '--work-dir', work_dir, '--cfg-options', *options)
    newest = max(work_dir.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    return {key: value for key, value in json.loads(newest.read_text()).items() if '/' in key}


def main() -> None:
    args = parse_args()
    data = f'data_root={args.data_root}'
    run('Drawing people', 'make_synthetic.py', args.data_root)
    towers, sen = args.work_dir / 'clip', args.work_dir / 'sen'
    train('Pretraining the towers with InfoNCE', CLIP, towers, data)
    start = best(towers)
    train('Training SEN', SEN, sen, data, f'model.backbone.pretrained={start}')
    quiet = 'log_level=WARNING'
    tests = args.work_dir / 'test'
    before = test('Testing the initialisation', CLIP, start, tests / 'clip', data, quiet)
    after = test('Testing SEN', SEN, best(sen), tests / 'sen', data, quiet)
    picture = args.work_dir / 'results.png'
    run(
        'Drawing the results',
        'show_results.py',
        SEN,
        best(sen),
        '--out',
        picture,
        '--cfg-options',
        data,
    )
    print(metrics_table(before, 'Initialisation, on people never seen in training'))
    print(metrics_table(after, 'SEN, on people never seen in training'))
    print(f'picture: {picture.resolve()}')


if __name__ == '__main__':
    main()
