"""Runs the tests under several instruction sets and numbers of threads, and prints a table.

What a computer adds in which order depends on them; a tolerance that fits one may not fit another.
Arguments are handed on to pytest. With OLDEST, the path of a Python that has the oldest versions
which pyproject.toml allows, and pytest with pytest-xdist, its tests are run too.

    python tests/portable.py
    OLDEST=~/torch26/bin/python python tests/portable.py -m numeric
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The first is that of `make test`.
SETTINGS = [
    {'OMP_NUM_THREADS': '1'},
    {'ATEN_CPU_CAPABILITY': 'default'},
    {'ATEN_CPU_CAPABILITY': 'avx2'},
    {'DNNL_MAX_CPU_ISA': 'AVX2'},
    {'OMP_NUM_THREADS': '2'},
]
VERSIONS = 'import sys, torch; print(sys.version.split()[0], torch.__version__)'
COLUMNS = '| {:61} | {:>6} | {:>6} | {:>7} | {:>7} |'


def environment(setting: dict[str, str]) -> dict[str, str]:
    """This one without the variables of the other settings, and the toolbox of this checkout."""
    names = {name for one in SETTINGS for name in one}
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return {**kept, 'PYTHONPATH': str(ROOT), **setting}


def run(python: str, setting: dict[str, str], options: list[str]) -> tuple[int, dict, float]:
    """Exit status, number of tests by outcome, and seconds; failures go to stderr."""
    began = time.monotonic()
    tests = subprocess.run(
        [python, '-m', 'pytest', '-n', '3', *options],
        cwd=ROOT,
        env=environment(setting),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if tests.returncode:
        print(tests.stdout, file=sys.stderr)
    last = tests.stdout.rstrip().rpartition('\n')[2]
    counts = {kind: int(count) for count, kind in re.findall(r'(\d+) (\w+)', last)}
    return tests.returncode, counts, time.monotonic() - began


def main() -> int:
    runs = [(sys.executable, setting) for setting in SETTINGS]
    if oldest := os.environ.get('OLDEST'):
        runs.append((os.path.expanduser(oldest), SETTINGS[0]))
    print(COLUMNS.format('Python, torch, setting', 'passed', 'failed', 'skipped', 'time'))
    print(COLUMNS.format('---', '--:', '--:', '--:', '--:'), flush=True)
    failures = 0
    for python, setting in runs:
        versions = subprocess.check_output([python, '-c', VERSIONS], text=True).strip()
        name = ' '.join([versions, *(f'{key}={value}' for key, value in setting.items())])
        code, counts, seconds = run(python, setting, sys.argv[1:])
        failures += code != 0
        failed = sum(counts.get(kind, 0) for kind in ('failed', 'error', 'errors'))
        row = (name, counts.get('passed', 0), failed, counts.get('skipped', 0), f'{seconds:.0f} s')
        print(COLUMNS.format(*row), flush=True)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
