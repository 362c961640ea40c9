"""Whole commands as a user runs them, each a process: CPU and wall seconds, medians of several.

They run in turn with ``import torch`` alone, which is their measure, on an index of drawn people
with the shipped model, in torch and exported. Indexing is compared with the model itself, a process
too that decodes, prepares and embeds the same crops in a loop. What each takes for one crop, the
start of a process above all, is taken off first. Both have the same core to themselves; beside them
stands indexing with all cores, where threads read ahead. CPU seconds of several cores are not
compared with those of one: cores that work at the same time slow each other. The two are compared
within each round, one right after the other, and the median of those ratios is shown: a machine
that changes its speed between rounds changes both.
"""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from common import arguments
from run_all import table

from sen_toolbox.datasets.synthetic import write_synthetic_pedes
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.inference.onnx_export import export_onnx
from sen_toolbox.search.images import find_files

ROOT = Path(__file__).parents[1]
IMAGES_PER_ID = 4
QUERY = ('query', 'a woman in a red coat and blue jeans', '--index', 'index')
TRAIN, MODEL = ROOT / 'tools/train.py', ROOT / 'benchmarks/plain_embedding.py'
# Of the time of `import torch`; those of three tenths and of 0.15 s where it takes 1.5 s.
GOALS = {
    'sen-search --help': 0.2,
    'sen-search index, no such folder': 0.2,
    'tools/train.py --help': 0.2,
    'tools/train.py --ampp': 0.2,
    'query, shipped model': 1.5,
    'query, exported model': None,
    'query, a server runs': 0.1,
}
# Of the speed of the model itself, on one core.
INDEX_GOAL = 0.9

# CPU seconds, wall seconds, output.
Run = tuple[float, float, str]


def run(folder: Path, *words: object, code: int = 0) -> Run:
    """One process of Python."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *map(str, words)], cwd=folder, stdout=output, stderr=output
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode()
    if process.returncode != code:
        raise RuntimeError(f'{words} ended with {process.returncode}, not {code}: {said}')
    return used.ru_utime + used.ru_stime, wall, said


def in_turn(repeats: int, commands: dict[str, Callable[[], Run]]) -> dict[str, list[Run]]:
    """The runs of each command, one of each a round."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            runs[name].append(command())
    return runs


def medians(runs: list[Run]) -> tuple[float, float]:
    """CPU and wall seconds."""
    return tuple(statistics.median(run[column] for run in runs) for column in (0, 1))


@contextmanager
def one_core() -> Iterator[None]:
    """Keeps this process, and those it starts, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def index_anew(folder: Path, source: Path) -> Run:
    """An index that holds nothing yet."""
    shutil.rmtree(folder / 'new', ignore_errors=True)
    return run(folder, '-m', 'sen_toolbox', 'index', source, '--index', 'new')


def seconds_of(process: int) -> float:
    """CPU seconds of a process that runs."""
    fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def ask_server(folder: Path, repeats: int) -> tuple[list[Run], float]:
    """Queries while a server runs, and the CPU seconds that one takes the server."""
    command = [sys.executable, '-m', 'sen_toolbox', 'serve', '--port', '0', '--index', 'index']
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            server.stdout.readline()
            before = seconds_of(server.pid)
            asking = {'': partial(run, folder, '-m', 'sen_toolbox', *QUERY)}
            found = in_turn(repeats, asking)['']
            return found, (seconds_of(server.pid) - before) / repeats
        finally:
            server.send_signal(signal.SIGTERM)


def scores(said: str) -> list[float]:
    """Those of a query's results."""
    return [float(score) for score in re.findall(r'^ *[0-9]+  (-?[0-9.]+)', said, re.MULTILINE)]


def main() -> None:
    args = arguments(__doc__, crops=2000, repeats=7)
    # Servers of whoever runs this are not asked.
    with tempfile.TemporaryDirectory() as name:
        os.environ.update(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT), XDG_RUNTIME_DIR=name)
        folder = Path(name)
        crops, one = folder / 'crops', folder / 'one'
        people = dict(train=args.crops // IMAGES_PER_ID - 2, val=1, test=1)
        write_synthetic_pedes(crops, num_ids=people, images_per_id=IMAGES_PER_ID, workers=1)
        one.mkdir()
        shutil.copy(find_files(crops).paths[0], one)
        export_onnx(load_encoder(), folder / 'shipped.onnx')
        search = partial(run, folder, '-m', 'sen_toolbox')
        search('index', crops, '--index', 'index')
        runs = in_turn(
            args.repeats,
            {
                'import torch': partial(run, folder, '-c', 'import torch'),
                'sen-search --help': partial(search, '--help'),
                'sen-search index, no such folder': partial(search, 'index', 'no', code=1),
                'tools/train.py --help': partial(run, folder, TRAIN, '--help'),
                'tools/train.py --ampp': partial(run, folder, TRAIN, '--ampp', code=2),
                'query, shipped model': partial(search, *QUERY),
                'query, exported model': partial(search, *QUERY, '--model', 'shipped.onnx'),
                'index, one core': one_core()(partial(index_anew, folder, crops)),
                'index, one core, of one crop': one_core()(partial(index_anew, folder, one)),
                'model': one_core()(partial(run, folder, MODEL, crops)),
                'model, of one crop': one_core()(partial(run, folder, MODEL, one)),
                'index, all cores': partial(index_anew, folder, crops),
                'index, all cores, of one crop': partial(index_anew, folder, one),
            },
        )
        runs['query, a server runs'], at_server = ask_server(folder, args.repeats)
    own, asked, exported = (
        runs[f'query, {way}'][-1][2] for way in ('shipped model', 'a server runs', 'exported model')
    )
    pairs = zip(scores(own), scores(exported), strict=True)
    checks = {
        'a server finds something else': own == asked,
        'the exported model gives other scores': max(abs(a - b) for a, b in pairs) < 2e-4,
    }
    result = dict(
        title=f'commands, whole processes, an index of {args.crops} drawn people',
        rows=rows_of(runs, at_server),
        failed=[what for what, passed in checks.items() if not passed],
    )
    print('\n'.join(table(result, 'cli')))
    if args.json:
        args.json.write_text(json.dumps(result))
    if result['failed']:
        raise SystemExit(1)


def rows_of(runs: dict[str, list[Run]], at_server: float) -> list[dict[str, str | float]]:
    """What the table shows."""
    rows = []
    base = medians(runs['import torch'])[0]
    for what, goal in {'import torch': None, **GOALS}.items():
        cpu, wall = medians(runs[what])
        ratio, most = f'{cpu / base:.2f} of import torch', goal and f'at most {goal}'
        rows.append(
            {'what': what, 'CPU s': cpu, 'wall s': wall, 'ratio': ratio, 'goal': most or ''}
        )
    rows[-1]['what'] += f', which takes {at_server:.3f} s more there'
    alone = more_than_one_crop(runs, 'model')
    for what, goal in (('index, one core', f'at least {INDEX_GOAL}'), ('index, all cores', '')):
        rounds = more_than_one_crop(runs, what)
        cpu, wall = medians(rounds)
        ratios = [model[1] / ours[1] for model, ours in zip(alone, rounds, strict=True)]
        speed = (
            f'{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) '
            'of the speed of the model alone on one core'
        )
        what += ', less that of one crop'
        rows.append({'what': what, 'CPU s': cpu, 'wall s': wall, 'ratio': speed, 'goal': goal})
    return rows


def more_than_one_crop(runs: dict[str, list[Run]], what: str) -> list[tuple[float, float]]:
    """CPU and wall seconds of all crops in each round, less those of a process for one."""
    rounds = zip(runs[what], runs[f'{what}, of one crop'], strict=True)
    return [(cpu - cpu_of_one, wall - of_one) for (cpu, wall, _), (cpu_of_one, of_one, _) in rounds]


if __name__ == '__main__':
    main()
