"""Training steps of SEN and IRRA on a GPU: images per second, share of its peak, memory, time.

Every combination of method, tower, precision and eager or compiled blocks; a process each, so that
memory and compiled code are its own. Without a GPU it says so and measures nothing.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from workload import build, draw_batch

from sen_toolbox.registry import OPTIM_WRAPPER_CONSTRUCTORS

ARCHS = {'ViT-B/16': 'ViT-B-16-quickgelu', 'ViT-L/14': 'ViT-L-14-quickgelu'}
# Forward and backward pass of a pair without anything that changes no gradient, GFLOP: the towers,
# the last image block on the class token where nothing reads the patches, the caption once.
GFLOP = {
    ('sen', 'ViT-B/16'): 159.3,
    ('sen', 'ViT-L/14'): 662.5,
    ('irra', 'ViT-B/16'): 128.1,
    ('irra', 'ViT-L/14'): 516.1,
}
# Dense 16-bit TFLOP/s: data sheets, for H100 and H200 what a large product reaches.
PEAK = {'H200': 790, 'H100': 790, 'A100': 312, '4090': 165, '3090': 71}
PRECISIONS = dict(fp16=torch.float16, bf16=torch.bfloat16)
WARM_UP = 8
NOT_RUN = 'not run'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch-size', type=int, default=128)
    parser.add_argument('--steps', type=int, default=30)
    parser.add_argument('--peak', type=float, help='peak of the GPU in TFLOP/s, if not known')
    parser.add_argument(
        '--case', nargs=4, help='measure one: method tower precision eager|compiled'
    )
    parser.add_argument('--json', type=Path, help='where to write the rows too')
    return parser.parse_args()


def peak_of_gpu(given: float | None) -> float | None:
    name = torch.cuda.get_device_name()
    return given or next((peak for key, peak in PEAK.items() if key in name), None)


def measure(case: list[str], batch_size: int, steps: int) -> dict[str, float]:
    """Milliseconds of each part, and peak memory in GiB."""
    method, tower, precision, mode = case
    model = build(method, ARCHS[tower], compile_blocks=mode == 'compiled').cuda()
    wrapper = model.config.optim_wrapper.to_dict()
    constructor = dict(type=wrapper.pop('constructor'), paramwise_cfg=wrapper.pop('paramwise_cfg'))
    wrapper.update(
        type='AutocastOptimWrapper', dtype='float16' if precision == 'fp16' else 'bfloat16'
    )
    optim = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(constructor, optim_wrapper_cfg=wrapper))(model)
    rows, columns = model.backbone.spec.image.image_size
    batch = draw_batch(batch_size)
    batch['images'] = torch.randint(0, 256, (batch_size, 3, rows, columns), dtype=torch.uint8)
    host = {key: value.pin_memory() for key, value in batch.items()}
    marks = {name: [] for name in ('data', 'forward', 'backward', 'optimiser', 'host')}

    def step() -> None:
        events = [torch.cuda.Event(enable_timing=True) for _ in range(5)]
        began = time.perf_counter()
        events[0].record()
        data = model.data_preprocessor(host, True)
        events[1].record()
        with optim.optim_context(model):
            loss, _ = model.parse_losses(model(**data, mode='loss'))
        events[2].record()
        optim.backward(loss)
        events[3].record()
        optim.step()
        optim.zero_grad()
        events[4].record()
        marks['host'].append(1000 * (time.perf_counter() - began))
        pending.append(events)

    pending = []
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    pending.clear()
    marks['host'].clear()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    whole = 1000 * (time.perf_counter() - began) / steps
    for events in pending:
        for i, name in enumerate(('data', 'forward', 'backward', 'optimiser')):
            marks[name].append(events[i].elapsed_time(events[i + 1]))
    parts = {name: statistics.median(taken) for name, taken in marks.items()}
    return dict(parts, step=whole, gib=torch.cuda.max_memory_allocated() / 2**30)


def main() -> None:
    args = parse_args()
    if args.case:
        print(json.dumps(measure(args.case, args.batch_size, args.steps)))
        return
    cases = list(itertools.product(GFLOP, PRECISIONS, ('eager', 'compiled')))
    if not torch.cuda.is_available():
        print(f'no GPU: {len(cases)} cases not run')
        rows = [
            dict(
                what=f'{method} {tower} {precision} {mode}',
                **dict.fromkeys(
                    ('images/s', 'MFU %', 'peak GiB', 'data / forward / backward / optimiser ms'),
                    NOT_RUN,
                ),
            )
            for (method, tower), precision, mode in cases
        ]
    else:
        peak, rows = peak_of_gpu(args.peak), []
        for (method, tower), precision, mode in cases:
            case = [method, tower, precision, mode]
            command = [
                sys.executable,
                __file__,
                '--batch-size',
                str(args.batch_size),
                '--steps',
                str(args.steps),
                '--case',
                *case,
            ]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(run.stdout.splitlines()[-1])
            rate = 1000 * args.batch_size / found['step']
            share = None if peak is None else 100 * rate * GFLOP[method, tower] / 1000 / peak
            parts = ' / '.join(
                f'{found[name]:.1f}' for name in ('data', 'forward', 'backward', 'optimiser')
            )
            rows.append(
                {
                    'what': ' '.join(case),
                    'images/s': f'{rate:.0f}',
                    'MFU %': '-' if share is None else f'{share:.1f}',
                    'peak GiB': f'{found["gib"]:.1f}',
                    'data / forward / backward / optimiser ms': parts,
                }
            )
            print(rows[-1], flush=True)
    if args.json:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else NOT_RUN
        title = f'Training steps on a GPU: {device}, batch of {args.batch_size}'
        args.json.write_text(json.dumps(dict(title=title, rows=rows)))


if __name__ == '__main__':
    main()
