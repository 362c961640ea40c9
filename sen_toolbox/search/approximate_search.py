"""Approximate search: faiss groups vectors around centres and looks at the nearest groups only."""

from pathlib import Path

import faiss
import numpy as np

from sen_toolbox.io import atomic_path
from sen_toolbox.search.exact_search import merge_best, search_exactly, threads
from sen_toolbox.search.lists_file import check_lists_file

MIN_LISTED = 1000
# Rows that are added at once: 64 MB of 512 float32 numbers.
CHUNK = 32768


def groups_of(rows: int) -> int:
    """How many groups so many vectors are divided into."""
    # Four times as many groups as vectors in a group: finer ones miss fewer neighbours for the same
    # number of vectors looked at, and take longer to make.
    groups = 2 ** round(np.log2(max(1, rows)) / 2 + 1)
    # faiss asks for 39 to 256 vectors a centre, and warns the user's terminal of fewer.
    return max(1, min(groups, rows // 39))


def build_lists(vectors: np.ndarray, path: Path) -> None:
    """Groups vectors (N, D) and writes the groups to a file, at once or not at all.

    Raises:
        ValueError: If there are fewer than ``MIN_LISTED``.
    """
    rows, dim = vectors.shape
    if rows < MIN_LISTED:
        raise ValueError(
            f'approximate search takes at least {MIN_LISTED} entries, the index holds {rows}: '
            'search it exactly'
        )
    groups = groups_of(rows)
    # Half precision in the groups: twice as many vectors looked at in the same time.
    index = faiss.index_factory(dim, f'IVF{groups},SQfp16', faiss.METRIC_INNER_PRODUCT)
    step = max(1, rows // (40 * groups))
    index.train(vectors[::step].astype(np.float32))
    for start in range(0, rows, CHUNK):
        index.add(vectors[start : start + CHUNK].astype(np.float32))
    index.nprobe = max(8, groups // 24)
    with atomic_path(path) as partial:
        faiss.write_index(index, str(partial))


def open_lists(path: Path, *, rows: int, dim: int) -> faiss.Index:
    """The groups in a file, which stay there.

    Args:
        path: The file; it may come from elsewhere.
        rows: How many vectors are in the groups.
        dim: Length of a vector.

    Raises:
        ValueError: If the file is not what :func:`build_lists` writes of such vectors.
    """
    check_lists_file(path, rows=rows, dim=dim)
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP)


def search_lists(
    lists: faiss.Index,
    vectors: np.ndarray,
    queries: np.ndarray,
    k: int,
    allowed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and rows (Q, k) of large inner products, best first; -1 for a row not found.

    Args:
        lists: Groups of the first ``lists.ntotal`` vectors; those behind are searched one by one.
        vectors: (N, D).
        queries: (Q, D) float32.
        k: From 1.
        allowed: The rows to choose from, ascending; None for all.

    Raises:
        ValueError: If the groups name a row that is not theirs.
    """
    looked_at = len(vectors) * lists.nprobe // lists.nlist
    if allowed is not None and len(allowed) <= looked_at:
        # No more than groups would hold, and nothing is missed.
        return search_exactly(vectors, queries, k, allowed)
    later = np.arange(lists.ntotal, len(vectors))
    options = {}
    if allowed is not None:
        bits = np.zeros(len(vectors), dtype=bool)
        bits[allowed] = True
        options = dict(sel=faiss.IDSelectorBitmap(np.packbits(bits, bitorder='little')))
        later = allowed[allowed >= lists.ntotal]
    params = faiss.SearchParametersIVF(nprobe=lists.nprobe, **options)
    listed = threads().submit(lists.search, queries, k, params=params).result()
    if listed[1].max(initial=-1) >= lists.ntotal or listed[1].min(initial=-1) < -1:
        raise ValueError(
            'the groups for approximate search are damaged: prepare it again with sen-search index '
            '--approximate'
        )
    return merge_best([listed, search_exactly(vectors, queries, k, later)], k)
