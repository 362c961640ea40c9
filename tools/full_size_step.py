"""Takes one training step and one evaluation of configs at full size on the CPU.

Draws a few people in the layout of each config's data set, builds everything that the config
describes (with random weights), and prints time and peak memory. A process each, so that the peaks
are their own.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

from mmengine.config import Config
from prettytable import PrettyTable

from sen_toolbox.config import load_config

ANNOTATIONS = {
    'CUHKPEDES': 'reid_raw.json',
    'ICFGPEDES': 'ICFG-PEDES.json',
    'RSTPReid': 'data_captions.json',
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'configs', nargs='+', help='config files, for instance configs/sen/sen_vit*'
    )
    parser.add_argument('--batch-size', type=int, default=4)
    return parser.parse_args()


def draw(root: Path, dataset_type: str) -> None:
    """Draws eight people in the layout of a data set."""
    from sen_toolbox.datasets.synthetic import write_synthetic_pedes

    write_synthetic_pedes(
        root, num_ids=dict(train=4, val=2, test=2), images_per_id=2, captions_per_image=2, workers=1
    )
    records = json.loads((root / 'reid_raw.json').read_text())
    if dataset_type == 'RSTPReid':
        for record in records:
            record['img_path'] = record.pop('file_path')
    (root / ANNOTATIONS[dataset_type]).write_text(json.dumps(records))


def runner_config(path: str, root: Path, batch_size: int) -> Config:
    """The config for one step without workers, pretrained weights, or NLTK's tables."""
    config = load_config(
        path,
        {
            'data_root': str(root),
            'num_classes': 4,
            'num_workers': 0,
            'batch_size': batch_size,
            'max_epochs': 1,
            'model.backbone.pretrained': None,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.dataset.tagger': dict(type='RuleTagger'),
            'log_level': 'ERROR',
        },
    )
    config.work_dir = str(root / 'work_dir')
    return config


def step(path: str, batch_size: int, answer: multiprocessing.SimpleQueue) -> None:
    """Trains one step and evaluates; puts (seconds, seconds, MiB, parameters) into ``answer``."""
    from mmengine.runner import Runner

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw(root, load_config(path).dataset_type)
        runner = Runner.from_cfg(runner_config(path, root, batch_size))
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        batch = next(iter(runner.build_dataloader(runner._train_dataloader)))
        started = time.perf_counter()
        logged = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        trained = time.perf_counter()
        metrics = runner.test()
        evaluated = time.perf_counter()
    if not all(value.isfinite() for value in logged.values()) or 't2i/R1' not in metrics:
        raise ValueError(f'{path}: {logged} {metrics}')
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    parameters = sum(p.numel() for p in runner.model.parameters()) / 1e6
    answer.put((trained - started, evaluated - trained, peak, parameters))


def main() -> None:
    args = parse_args()
    table = PrettyTable(['config', 'M parameters', 'train step s', 'evaluation s', 'peak MiB'])
    context = multiprocessing.get_context('spawn')
    for path in args.configs:
        answer = context.SimpleQueue()
        process = context.Process(target=step, args=(path, args.batch_size, answer))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f'{path} failed')
        trained, evaluated, peak, parameters = answer.get()
        table.add_row(
            [path, f'{parameters:.1f}', f'{trained:.1f}', f'{evaluated:.1f}', f'{peak:.0f}']
        )
    print(f'Batch of {args.batch_size}, float32, CPU')
    print(table)


if __name__ == '__main__':
    main()
