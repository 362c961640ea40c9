"""Measures any config as it is, with random weights: parameters, FLOPs, speed and memory.

Draws a few people, builds everything that the config describes, and takes batches from its own
pipelines through training, validation and search. A process each, so that the peaks of memory are
their own. FLOPs count a multiplication and an addition as two, of matrix products, convolutions
and attention; recurrent layers, which PyTorch does not count, are missing.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sen_toolbox.command_line import add_cfg_options, read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument(
        'configs', nargs='+', help='config files, for instance configs/sen/sen_vit*'
    )
    parser.add_argument('--batch-size', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=3, help='of which the median counts')
    parser.add_argument('--no-training', action='store_true', help='leave out the training step')
    parser.add_argument('--out', type=Path, help='also write the figures as JSON')
    add_cfg_options(parser)
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

from mmengine.config import Config
from prettytable import PrettyTable

from sen_toolbox.config import load_config

# Images that each query of the measured search is compared with.
GALLERY = 10_000
COLUMNS = {
    'parameters_m': 'M parameters',
    'image_gflops': 'GFLOPs, image',
    'text_gflops': 'GFLOPs, caption',
    'step_gflops': 'GFLOPs, training pair',
    'images_per_s': 'images/s',
    'queries_per_s': 'queries/s',
    'pairs_per_s': 'training pairs/s',
    'search_mib': 'search MiB',
    'training_mib': 'training MiB',
}


def runner_config(path: str, root: Path, batch_size: int, options: dict) -> Config:
    """The config on drawn people, without workers, pretrained weights, or NLTK's tables."""
    config = load_config(
        path,
        {
            'num_classes': 4,
            'num_workers': 0,
            'batch_size': batch_size,
            'max_epochs': 1,
            'train_dataloader.persistent_workers': False,
            'log_level': 'ERROR',
            **options,
        },
    )
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = config[name].dataset
        config[name].dataset = dict(
            type='CUHKPEDES',  # the layout of the drawn people, whatever the config's is
            data_root=str(root),
            split=dataset.split,
            pipeline=dataset.pipeline,
            tagger=dict(type='RuleTagger') if 'tagger' in dataset else None,
        )
    config.visualizer.vis_backends = []
    config.env_cfg.mp_cfg = dict(mp_start_method='spawn')  # as here; MMEngine would warn
    config.work_dir = str(root / 'work_dir')
    return config


def measure(path: str, args: argparse.Namespace, answer: multiprocessing.SimpleQueue) -> None:
    """Puts the figures of a config into ``answer``, by the keys of ``COLUMNS``."""
    import torch
    from mmengine.runner import Runner

    from sen_toolbox.datasets.synthetic import write_synthetic_pedes

    size, repeats = args.batch_size, args.repeats
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        people = dict(train=4, val=2, test=2)
        per_person = max(2, -(-size // 2))
        write_synthetic_pedes(
            root, num_ids=people, images_per_id=per_person, captions_per_image=2, workers=1
        )
        runner = Runner.from_cfg(runner_config(path, root, size, args.cfg_options))
        model = runner.model.eval()
        tested = next(iter(runner.build_dataloader(runner._test_dataloader)))
        trained = next(iter(runner.build_dataloader(runner._train_dataloader)))
    inputs = model.data_preprocessor(tested)
    images, tokens = inputs['images'], inputs['tokens'][: len(inputs['images'])]
    gallery = torch.nn.functional.normalize(torch.randn(GALLERY, model.embed_text(tokens).shape[1]))
    gallery = gallery.to(images.device)

    def search() -> None:
        (model.embed_text(tokens) @ gallery.T).topk(10)

    found = dict(parameters_m=sum(p.numel() for p in model.parameters()) / 1e6)
    with torch.inference_mode():
        found |= dict(
            images_per_s=len(images) / seconds(lambda: model.embed_images(images), repeats),
            queries_per_s=len(tokens) / seconds(search, repeats),
            search_mib=peak_mib(),
        )
    if not args.no_training:
        model.train()
        wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        logged = {}

        def step() -> None:
            logged.update(model.train_step(trained, optim_wrapper=wrapper))

        pairs = len(trained['images'])
        found['pairs_per_s'] = pairs / seconds(step, repeats)
        found['training_mib'] = peak_mib()
        found['step_gflops'] = gflops(step) / pairs
        if not all(torch.as_tensor(value).isfinite().all() for value in logged.values()):
            raise ValueError(f'{path}: the training step gave {logged}')
    model.eval()
    with torch.inference_mode():
        found |= dict(
            image_gflops=gflops(lambda: model.embed_images(images)) / len(images),
            text_gflops=gflops(lambda: model.embed_text(tokens)) / len(tokens),
        )
    answer.put(found)


def gflops(function: Callable[[], object]) -> float:
    """Billions of floating point operations of a call, backward passes within it included.

    Attention is counted as its matrix products: of the fused kernels, of which each machine takes
    its own, PyTorch counts some and not others. They need more memory, so peaks are read before.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() / 1e9


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Median time of a call, after a first one that is not timed."""
    import torch

    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def peak_mib() -> float:
    """Most memory so far: of the GPU if there is one, otherwise of the process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    args = parse_args()
    table = PrettyTable(['config', *COLUMNS.values()], align='r')
    table.align['config'] = 'l'
    context = multiprocessing.get_context('spawn')
    results = {}
    for path in args.configs:
        answer = context.SimpleQueue()
        process = context.Process(target=measure, args=(path, args, answer))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f'{path} failed')
        results[path] = answer.get()
        row = [results[path].get(key) for key in COLUMNS]
        table.add_row([path, *('' if value is None else f'{value:.4g}' for value in row)])
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    threads = '' if torch.cuda.is_available() else f', {torch.get_num_threads()} threads'
    place = f'{device}{threads}, batch of {args.batch_size}, median of {args.repeats}'
    print(f'{place}; a query is embedded and compared with {GALLERY} images')
    print(table)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(dict(place=place, configs=results), indent=1))


if __name__ == '__main__':
    run_main(main)
