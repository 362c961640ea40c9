"""Exact search of vectors where they lie, in memory or in a mapped file.

A block of rows is multiplied with every query while the processor's cache holds it, so that the
vectors pass through memory once, however many the queries are. faiss multiplies: its scanner takes
rows that lie outside an index (``InvertedListScanner`` in faiss/IndexIVF.h), and float16 as it is
stored. NumPy has to convert float16 first, which takes longer than to read it.
"""

import functools
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import faiss
import numpy as np

# Bytes of a block: little enough for a cache, so much that the calls of Python do not count.
BLOCK = 2**22
# Rows that are copied sooner than faiss is called for them alone.
SHORT = 32
_CODES = {'float32': 'Flat', 'float16': 'SQfp16'}


def search_exactly(
    vectors: np.ndarray, queries: np.ndarray, k: int, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and rows (Q, k) of the largest inner products, best first, equal ones by row.

    A vector has the same score in every place and beside every other query.

    Args:
        vectors: (N, D) float32 or float16, C-contiguous.
        queries: (Q, D).
        k: From 1. Where there are fewer rows, the score is -inf and the row -1.
        rows: The rows to choose from, int64, ascending.
    """
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    parts = np.array_split(rows, faiss.omp_get_max_threads())
    return merge_best(threads().map(lambda part: _scan(vectors, queries, k, part), parts), k)


def merge_best(
    found: Iterable[tuple[np.ndarray, np.ndarray]], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of several scores and rows, each (Q, any number), equal scores by row."""
    scores, rows = (np.concatenate(part, axis=1) for part in zip(*found, strict=True))
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


@functools.cache
def threads() -> ThreadPoolExecutor:
    """As many threads as faiss would use, in each of which it uses one.

    A query waits for memory, not for arithmetic: faiss's own threads, which meet at barriers, are
    slower as soon as something else takes a core.
    """
    return ThreadPoolExecutor(
        faiss.omp_get_max_threads(), initializer=lambda: faiss.omp_set_num_threads(1)
    )


def _scan(
    vectors: np.ndarray, queries: np.ndarray, k: int, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    dim = vectors.shape[1]
    scanner = _scanner(dim, vectors.dtype.name, threading.get_ident())
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    # Of equal scores faiss gives up that with the smallest label, and the last row shall go first.
    last = len(vectors) - 1
    labels = np.full(scores.shape, last + 1, dtype=np.int64)
    heaps = [tuple(map(faiss.swig_ptr, heap)) for heap in zip(queries, scores, labels, strict=True)]
    for block, block_rows in _blocks(vectors, rows):
        block_labels = last - block_rows
        given = len(block), *map(faiss.swig_ptr, (block.view(np.uint8), block_labels))
        for query, *heap in heaps:
            scanner.set_query(query)
            scanner.scan_codes(*given, *heap, k)
    return scores, last - labels


def _blocks(vectors: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some vectors in blocks with their rows, copied only where few of them stand together."""
    step = max(1, BLOCK // (vectors.shape[1] * vectors.itemsize))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        cuts = []
        if part[-1] - part[0] >= len(part):
            cuts = (np.flatnonzero(np.diff(part) > 1) + 1).tolist()
        if len(cuts) * SHORT > len(part):
            yield vectors[part], part
        else:
            for begin, end in pairwise([0, *cuts, len(part)]):
                yield vectors[part[begin] : part[end - 1] + 1], part[begin:end]


@functools.cache
def _scanner(dim: int, dtype: str, thread: int) -> faiss.InvertedListScanner:
    """A scanner of one thread; kept, since faiss's Python interface never frees one."""
    index = faiss.index_factory(dim, f'IVF1,{_CODES[dtype]}', faiss.METRIC_INNER_PRODUCT)
    # Called through the base class, which alone gives default arguments.
    scanner = faiss.IndexIVF.get_InvertedListScanner(index)
    scanner.index = index
    # The only list, with nothing to add to its scores.
    scanner.set_list(0, 0.0)
    return scanner
