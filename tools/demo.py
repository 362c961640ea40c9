"""Draws people, pretrains tiny towers, trains SEN on them, evaluates it and shows the result.

Runs on two CPU cores. Each step that is done is not done again; delete work_dirs/demo to start
over.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

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


def train(title: str, config: str, work_dir: Path, *options: str) -> Path:
    """Trains unless done, continues if interrupted; returns the last checkpoint."""
    done = work_dir / 'done'
    if not done.exists():
        run(
            title, 'train.py', config, '--work-dir', work_dir, '--resume', '--cfg-options', *options
        )
        done.touch()
    return Path((work_dir / 'last_checkpoint').read_text())


def best(work_dir: Path) -> Path:
    """The checkpoint with the highest validation R1."""
    return max(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)


def main() -> None:
    args = parse_args()
    data = f'data_root={args.data_root}'
    run('Drawing people', 'make_synthetic.py', args.data_root)
    towers = args.work_dir / 'clip'
    train('Pretraining the towers with InfoNCE', CLIP, towers, data)
    sen = args.work_dir / 'sen'
    start = best(towers)
    train('Training SEN', SEN, sen, data, f'model.backbone.pretrained={start}')
    for name, config, checkpoint in (('its initialisation', CLIP, start), ('SEN', SEN, best(sen))):
        run(
            f'Test of {name}: people never seen in training',
            'test.py',
            config,
            checkpoint,
            '--work-dir',
            args.work_dir / 'test',
            '--cfg-options',
            data,
        )
    picture = args.work_dir / 'results.png'
    run('Drawing the results', 'show_results.py', SEN, best(sen), '--out', picture)


if __name__ == '__main__':
    main()
