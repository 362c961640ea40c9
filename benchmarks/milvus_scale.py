"""Compares galleries on a Milvus server and in a folder: writing, exact and approximate search.

Prints a Markdown table. It starts a server of its own, from the wheel ``milvus`` (of the extra
``dev``), and takes some twenty minutes on two cores, so it is not among those of ``make bench``.
Wall times are medians and depend on what else the machine does; CPU times are those of this process
and of the server together, with what the server does of its own accord.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import shown
from milvus_server import Server
from search_million import clustered

from sen_toolbox.search.index import Entry, FileState, GalleryIndex, ModelId, open_index

FOLDERS = 20
COLUMNS = (
    '',
    'prepared in s',
    'CPU s',
    'recall@10',
    'recall@10 within a folder',
    'one query ms',
    'CPU ms',
    'of 100 at once, each ms',
    'server MB',
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--vectors', type=int, default=200_000)
    parser.add_argument('--dim', type=int, default=512)
    parser.add_argument('--batch', type=int, default=1000, help='entries in a write')
    parser.add_argument('--repeats', type=int, default=21)
    return parser.parse_args()


class Bench:
    """The vectors, the queries, and the table."""

    def __init__(self, args: argparse.Namespace, server: Server) -> None:
        self.args, self.server = args, server
        self.rng = np.random.default_rng(0)
        self.centres = self.rng.standard_normal((args.vectors // 100, args.dim), dtype=np.float32)
        self.centres /= np.linalg.norm(self.centres, axis=1, keepdims=True)
        self.queries = clustered(100, self.centres, self.rng)
        self.truth: dict[str | None, list[set[str]]] = {}
        print(f'| {" | ".join(COLUMNS)} |')
        print('|---' * len(COLUMNS) + '|', flush=True)

    def cpu(self) -> float:
        """CPU seconds of both processes so far."""
        return time.process_time() + self.server.cpu_seconds()

    def write(self, index: GalleryIndex, count: int, batch: int, folder: str) -> list[float]:
        """Seconds of each write."""
        taken = []
        rng = np.random.default_rng(1)
        with index.writing():
            for start in range(0, count, batch):
                part = clustered(min(batch, count - start), self.centres, rng)
                numbers = range(start, start + len(part))
                paths = [f'/{folder}/{n * FOLDERS // count:02d}/{n:09d}.jpg' for n in numbers]
                files = dict.fromkeys(paths, FileState(1, 1, '0' * 64))
                begun = time.perf_counter()
                index.write(files, [Entry(path) for path in paths], part)
                taken.append(time.perf_counter() - begun)
        return taken

    def report_writing(self, name: str, index: GalleryIndex) -> None:
        """Fills an index and prints how long that took."""
        started, cpu = time.perf_counter(), self.cpu()
        count = self.args.vectors
        taken = self.write(index, count, self.args.batch, 'gallery')
        wall, cpu = time.perf_counter() - started, self.cpu() - cpu
        tenth = max(1, len(taken) // 10)
        print(
            f'{name}: {count} entries in {wall:.0f} s, {count / wall:.0f}/s, '
            f'{1e3 * cpu / count:.2f} CPU ms each; a write of {self.args.batch} took '
            f'{np.mean(taken[:tenth]):.2f} s in the first tenth, '
            f'{np.mean(taken[-tenth:]):.2f} s in the last',
            flush=True,
        )

    def add(
        self, name: str, index: GalleryIndex, kind: str | None, repeats: int, **how: bool
    ) -> None:
        """A row of the table; the first gives what is right. With a kind it is prepared before."""
        begun, cpu = time.perf_counter(), self.cpu()
        if kind:
            with index.writing():
                index.build_approximate(kind)
        taken = [time.perf_counter() - begun, self.cpu() - cpu] if kind else [None, None]

        def found(queries: np.ndarray, within: str | None = None) -> list[set[str]]:
            hits = index.search(queries, 10, within=within, **how)
            return [{entry.path for entry, _ in some} for some in hits]

        recalls, many = [], []
        for folder in (None, '/gallery/07'):
            begun = time.perf_counter()
            sets = found(self.queries, folder)
            many.append(time.perf_counter() - begun)
            right = self.truth.setdefault(folder, sets)
            hits = sum(len(a & b) for a, b in zip(sets, right, strict=True))
            recalls.append(hits / sum(map(len, right)))
        wall, cpu = self.time_of(lambda: found(self.queries[:1]), repeats)
        each = 1e3 * many[0] / len(self.queries)
        cells = [*taken, *recalls, wall, cpu, each, self.server.memory()]
        print(f'| {name} | {" | ".join(map(shown, cells))} |', flush=True)

    def time_of(self, action: Callable[[], object], repeats: int) -> tuple[float, float]:
        """Median wall and mean CPU milliseconds."""
        walls, cpu = [], self.cpu()
        for _ in range(repeats):
            begun = time.perf_counter()
            action()
            walls.append(time.perf_counter() - begun)
        return 1e3 * float(np.median(walls)), 1e3 * (self.cpu() - cpu) / repeats


def main() -> None:
    args = parse_args()
    model = ModelId('random', 'random', args.dim)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        server = Server(root / 'milvus')
        try:
            server.start()
            empty, disk = server.memory(), server.disk()
            print(f'an empty server: {empty:.0f} MB of memory, {disk:.0f} MB of disk')
            local = open_index(root / 'index', model)
            remote = open_index('people', model, uri=server.uri)
            bench = Bench(args, server)
            bench.report_writing('folder', local)
            bench.report_writing('Milvus', remote)
            small = open_index('small', model, uri=server.uri)
            taken = bench.write(small, 1280, 64, 'small')
            print(f'Milvus, a write of 64: {np.median(taken):.2f} s', flush=True)
            begun = time.perf_counter()
            remote.files()
            print(f'Milvus, list of all files: {time.perf_counter() - begun:.1f} s', flush=True)
            bench.add('folder, exact', local, None, args.repeats)
            bench.add('folder, ivf', local, 'ivf', args.repeats, approximate=True)
            bench.add('Milvus, exact', remote, None, args.repeats)
            bench.add('Milvus, ivf', remote, 'ivf', args.repeats, approximate=True)
            bench.add('Milvus, ivf, searched exactly', remote, None, 1)
            bench.add('Milvus, hnsw', remote, 'hnsw', args.repeats, approximate=True)
            print(f'disk: {server.disk() - disk:.0f} MB more, with the log of writes')
        finally:
            server.stop()


if __name__ == '__main__':
    main()
