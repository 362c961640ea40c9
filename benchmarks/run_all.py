"""Runs every benchmark that a CPU can and writes docs/benchmarks.md; GPU rows only with a GPU.

Exits with status 1 if any equality check failed; figures that miss their goal are only shown.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import shown

HERE = Path(__file__).parent
BENCHMARKS = (
    'train_step',
    'classic_steps',
    'activation_memory',
    'data_pipeline',
    'evaluation',
    'caption_features',
    'query',
    'image_features',
    'precision',
    'startup',
    'cli',
    'memory_growth',
)
PAGE = HERE.parent / 'docs' / 'benchmarks.md'
NOT_RUN = 'not run'
# What stands in the page before the tables.
HEAD = """# Benchmarks

`make bench` writes this page ({date}, {hardware}, torch {torch}, one thread).

Every row is ours against a plain reference in the same process, in turn; times are medians of CPU
time unless the row says otherwise, so other programs on the machine count little. (Only the plain
training samples are made in a forked process, with the C library's own allocator.) The reference
(`benchmarks/plain.py`) has the cost of the SEN and IRRA releases, in our own words: the caption is
encoded twice, all blocks run on all tokens, the vocabulary is scored at 77 positions, each
parameter has its own optimiser group, rankings are full sorts evaluated in loops. A ratio is
reference / ours. A goal was set beforehand, and a row may miss it. Each script checks in the
same run that both compute the same and fails otherwise.

The classic methods are compared with plain renditions of their own releases
(`benchmarks/plain_*.py`): loops over captions and parts, BERT on all positions, negatives looked
for anchor by anchor. Where captions differ in length, torch reads a packed LSTM word by word; ours
is oneDNN's, which is faster and keeps a copy of its weights until the backward pass.

In 16 bits: where a GPU has bfloat16 (from Ampere on), train with `--amp bfloat16`. It
has float32's range, so no loss is scaled and no step skipped. Elsewhere take `--amp float16`, which
scales the loss. Weights stay in float32 in both. `model.compile_blocks=True` compiles the
towers' blocks, once for all lengths of captions and sizes of batches; on a CPU it gains nothing.
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('only', nargs='*', help=f'some of {", ".join(BENCHMARKS)}')
    parser.add_argument(
        '--results', type=Path, help='folder of rows; those of earlier runs that are there are kept'
    )
    return parser.parse_args()


def hardware() -> str:
    """The processor's name and the number of cores that this process may use."""
    info = Path('/proc/cpuinfo')
    names = (
        []
        if not info.exists()
        else [
            line.split(':')[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith('model name')
        ]
    )
    return f'{names[0] if names else platform.processor()}, {os.cpu_count()} cores'


def table(result: dict | None, name: str) -> list[str]:
    """Markdown of one benchmark; None where it did not run."""
    if result is None:
        return [f'## {name}', '', NOT_RUN, '']
    columns = list(result['rows'][0])
    lines = [
        f'## {result["title"]}',
        '',
        f'| {" | ".join(["", *columns[1:]])} |',
        '|---' * len(columns) + '|',
    ]
    for row in result['rows']:
        cells = [cell if isinstance(cell, str) else shown(cell) for cell in row.values()]
        lines.append(f'| {" | ".join(cells)} |')
    checks = ''
    if 'failed' in result:
        failed = result['failed']
        checks = f'Checks: {"FAILED: " + ", ".join(failed) if failed else "all passed"}. '
    return [*lines, '', f'{checks}`benchmarks/{name}.py`', '']


def run(name: str, target: Path) -> None:
    """Runs one script on one thread (``gpu_step`` on all)."""
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    if name == 'gpu_step':
        environment.pop('OMP_NUM_THREADS')
    started = time.perf_counter()
    print(f'--- {name}', flush=True)
    subprocess.run(
        [sys.executable, HERE / f'{name}.py', '--json', target],
        env=environment,
        check=False,
        cwd=HERE.parent,
    )
    print(f'{time.perf_counter() - started:.0f} s', flush=True)


def write_page(folder: Path) -> bool:
    """Writes the page from the rows in ``folder``; whether all ran and found equal results."""
    results = {
        name: json.loads(path.read_text()) if path.exists() else None
        for name in (*BENCHMARKS, 'gpu_step')
        for path in [folder / f'{name}.json']
    }
    lines = [HEAD.format(date=datetime.date.today(), hardware=hardware(), torch=torch.__version__)]
    for name, result in results.items():
        lines += table(result, name)
    PAGE.write_text('\n'.join(lines).rstrip() + '\n')
    print(f'wrote {PAGE}')
    return all(results[name] and not results[name].get('failed') for name in BENCHMARKS)


def main() -> None:
    args = parse_args()
    folder = args.results or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    for name in args.only or (*BENCHMARKS, 'gpu_step'):
        if (HERE / f'{name}.py').exists():
            (folder / f'{name}.json').unlink(missing_ok=True)
            run(name, folder / f'{name}.json')
    if not write_page(folder):
        raise SystemExit(1)


if __name__ == '__main__':
    main()
