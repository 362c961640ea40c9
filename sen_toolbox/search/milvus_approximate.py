"""Approximate search in Milvus: the structures it is asked for, and exact search beside them.

Milvus makes a structure per segment, of at most some 100,000 entries, and by itself for every
segment that is filled later.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sen_toolbox.search.approximate_search import groups_of
from sen_toolbox.search.exact_search import merge_best, search_exactly

EXACT = 'FLAT'
# Groups as in a folder; a graph, whose search is faster and which takes longer to make.
KINDS = {'ivf': 'IVF_FLAT', 'hnsw': 'HNSW'}
# Entries of a segment at the most: 512 MB of what Milvus reckons for one, its texts included.
SEGMENT = 2**17


def structure(kind: str, rows: int) -> dict:
    """Type and numbers of what Milvus shall make for so many entries.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f'there is no approximate search {kind!r}, choose from {list(KINDS)}')
    if kind == 'hnsw':
        params = dict(M=16, efConstruction=200)
    else:
        params = dict(nlist=groups_of(min(rows, SEGMENT)))
    return dict(index_type=KINDS[kind], params=params)


def is_made(described: Mapping, wanted: Mapping) -> bool:
    """Whether an index, as Milvus describes it, is what :func:`structure` asks for."""
    numbers = {name: str(described.get(name)) for name in wanted['params']}
    asked = {name: str(value) for name, value in wanted['params'].items()}
    return described['index_type'] == wanted['index_type'] and numbers == asked


def effort(described: Mapping, k: int) -> dict:
    """How much of an index to look at for the k best.

    Args:
        described: The index, as Milvus describes it.
        k: From 1.
    """
    if described['index_type'] == KINDS['ivf']:
        # The share of a folder.
        return dict(nprobe=max(8, int(described['nlist']) // 24))
    if described['index_type'] == KINDS['hnsw']:
        return dict(ef=max(64, 2 * k))
    # What Milvus chose itself (AUTOINDEX, of older versions), it also searches as it thinks best.
    return {}


def search_pages(
    pages: Iterable[Sequence[Mapping]], queries: np.ndarray, k: int
) -> list[list[tuple[Mapping, float]]]:
    """The k rows with the largest inner products for each query (Q, D), best first.

    Args:
        pages: Rows with 'vector', D numbers; as many as there are, since few are kept.
        queries: (Q, D).
        k: From 1.
    """
    scores = np.empty((len(queries), 0), np.float32)
    numbers = np.empty((len(queries), 0), np.int64)
    kept: dict[int, Mapping] = {}
    start = 0
    for part in pages:
        vectors = np.asarray([row['vector'] for row in part], np.float32)
        new_scores, new = search_exactly(vectors, queries, k, np.arange(len(part)))
        new = np.where(new < 0, -1, new + start)
        scores, numbers = merge_best([(scores, numbers), (new_scores, new)], k)
        best = set(np.unique(numbers[numbers >= 0]).tolist())
        kept = {number: kept[number] if number < start else part[number - start] for number in best}
        start += len(part)
    return [
        [(kept[number], score) for score, number in zip(*pair, strict=True) if number >= 0]
        for pair in zip(scores.tolist(), numbers.tolist(), strict=True)
    ]
