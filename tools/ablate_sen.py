"""Trains SEN with one part switched off at a time and prints what each part is worth.

Every variant starts from the same pretrained towers and runs with several seeds; the table gives
mean and standard deviation on the test split, after the last epoch. Each result is kept in a JSON
file, so an interrupted run goes on where it stopped, and seeds can run side by side.
"""

import argparse
import json
import statistics
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from sen_toolbox.config import load_config

HEADS = ('restoration', 'triplet')
TRANSFORMS = ('PruneCaption', 'MaskWords')
FULL = 'SEN'
PARTS = (FULL, *HEADS, *TRANSFORMS)
MEASURES = ('t2i/R1', 't2i/mAP', 'i2t/R1')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('pretrained', help='checkpoint of the pretrained towers')
    parser.add_argument('--config', default='configs/sen/sen_tiny_synthetic.py')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/ablate_sen'))
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', default={}
    )
    return parser.parse_args()


def without(config: Config, part: str) -> Config:
    """Takes a head or a transform out of a config."""
    if part in HEADS:
        del config.model.heads[part], config.model.loss_weights[part]
    elif part in TRANSFORMS:
        dataset = config.train_dataloader.dataset
        dataset.pipeline = [step for step in dataset.pipeline if step['type'] != part]
    return config


def train(args: argparse.Namespace, part: str, seed: int) -> dict[str, float]:
    """Metrics of one run on the test split."""
    config = load_config(args.config, args.cfg_options)
    config.model.backbone.pretrained = args.pretrained
    config.randomness.seed = seed
    config.work_dir = str(args.work_dir / f'{part}_{seed}')
    # No validation: the last epoch counts.
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    config.train_cfg.pop('val_interval')
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1)
    runner = Runner.from_cfg(without(config, part))
    runner.train()
    return runner.test()


def table(results: dict[tuple[str, int], dict], seeds: list[int]) -> str:
    """Mean and standard deviation of every variant, in Markdown."""
    rows = [f'| | {" | ".join(MEASURES)} |', '|---' * (len(MEASURES) + 1) + '|']
    for part in PARTS:
        cells = []
        for measure in MEASURES:
            values = [results[part, seed][measure] for seed in seeds]
            spread = statistics.stdev(values) if len(values) > 1 else float('nan')
            cells.append(f'{statistics.mean(values):.2f} ± {spread:.2f}')
        name = part if part == FULL else f'without {part}'
        rows.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(rows)


def main() -> None:
    args = parse_args()
    results = {}
    for seed in args.seeds:
        for part in PARTS:
            path = args.work_dir / f'{part}_{seed}.json'
            if not path.exists():
                metrics = train(args, part, seed)
                path.write_text(json.dumps(metrics, indent=1))
            results[part, seed] = json.loads(path.read_text())
            print(f'{path.stem}: t2i R1 {results[part, seed]["t2i/R1"]:.2f}', flush=True)
    print(table(results, args.seeds))


if __name__ == '__main__':
    main()
