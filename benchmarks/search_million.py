"""Times the index in a folder: exact and approximate search of many clustered vectors.

Exact search of one query is compared with one pass over the same bytes, by as many threads. Times
are medians; both are taken in turn, since a shared machine does not keep its speed.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np

from sen_toolbox.search.index import Entry, FileState, ModelId
from sen_toolbox.search.local_index import LocalIndex

BATCH = 20_000


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--vectors', type=int, default=1_000_000)
    parser.add_argument('--dim', type=int, default=512)
    parser.add_argument('--queries', type=int, default=100, help='for the batch and the recall')
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--folder', type=Path, help='where to keep the indexes (default: deleted)')
    return parser.parse_args()


def clustered(count: int, centres: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors around centres; two of one centre have a cosine near 0.5."""
    noise = rng.standard_normal((count, centres.shape[1]), dtype=np.float32)
    vectors = centres[rng.integers(len(centres), size=count)] + noise / centres.shape[1] ** 0.5
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(index: LocalIndex, count: int, centres: np.ndarray, rng: np.random.Generator) -> None:
    with index.writing():
        for start in range(0, count, BATCH):
            part = clustered(min(BATCH, count - start), centres, rng)
            paths = [f'/gallery/{start + i:08d}.jpg' for i in range(len(part))]
            state = FileState(0, 0, '')
            index.write(dict.fromkeys(paths, state), [Entry(path) for path in paths], part)


def one_pass(array: np.ndarray) -> Callable[[], object]:
    """Reads every byte once."""
    numbers = array.reshape(-1).view(np.int64)
    threads = faiss.omp_get_max_threads()
    pool, parts = ThreadPoolExecutor(threads), np.array_split(numbers, threads)
    return lambda: max(pool.map(np.max, parts))


def medians(repeats: int, *actions: Callable[[], object]) -> list[float]:
    """Median time of each action in milliseconds, taken in turn."""
    times = [[] for _ in actions]
    for _ in range(repeats + 1):
        for action, taken in zip(actions, times, strict=True):
            started = time.perf_counter()
            action()
            taken.append((time.perf_counter() - started) * 1e3)
    return [statistics.median(taken[1:]) for taken in times]


def memory() -> str:
    fields = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())
    own, mapped = (int(fields[key].split()[0]) / 1e3 for key in ('RssAnon', 'RssFile'))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return f'{own:.0f} MB own, {mapped:.0f} MB mapped from files, {peak:.0f} MB at the most'


def report(args: argparse.Namespace, root: Path, *, half: bool) -> None:
    model = ModelId('random', 'random', args.dim)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, args.vectors // 100), args.dim), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    folder = root / ('float16' if half else 'float32')
    started = time.perf_counter()
    fill(LocalIndex(folder, model=model, half=half), args.vectors, centres, rng)
    print(
        f'\n{folder.name}: {args.vectors} vectors written in {time.perf_counter() - started:.1f} s'
    )

    queries = clustered(args.queries, centres, rng)
    index = LocalIndex(folder, model=model)
    started = time.perf_counter()
    index.search(queries[:1], 10)
    print(f'reopened and first answer: {time.perf_counter() - started:.2f} s; {memory()}')
    array = index._vectors[1]
    passing, exact = medians(args.repeats, one_pass(array), lambda: index.search(queries[:1], 10))
    print(
        f'one pass {passing:.1f} ms, exact top-10 of one query {exact:.1f} ms: '
        f'{exact / passing:.2f} times the pass'
    )
    one, many = medians(1, lambda: index.search(queries[:1], 10), lambda: index.search(queries, 10))
    print(
        f'exact top-10 of {len(queries)} queries at once {many:.0f} ms: '
        f'{many / one / len(queries):.2f} times as long per query as one alone'
    )
    started = time.perf_counter()
    with index.writing():
        index.build_approximate()
    print(f'grouped in {time.perf_counter() - started:.1f} s')
    exact, fast = medians(
        args.repeats,
        lambda: index.search(queries[:1], 10),
        lambda: index.search(queries[:1], 10, approximate=True),
    )
    truth = index.search(queries, 10)
    found = index.search(queries, 10, approximate=True)
    hits = sum(
        len({e.path for e, _ in a} & {e.path for e, _ in b})
        for a, b in zip(truth, found, strict=True)
    )
    print(
        f'approximate {fast:.2f} ms: {exact / fast:.1f} times as fast, '
        f'recall@10 {hits / (10 * len(queries)):.3f}'
    )
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f'{size:.0f} MB on disk; {memory()}')


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for half in (False, True):
            report(args, args.folder or Path(temporary), half=half)


if __name__ == '__main__':
    main()
