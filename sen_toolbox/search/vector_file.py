"""Vectors in a file of fixed rows, mapped into memory and searched there by faiss.

The file is one empty page and then the rows. faiss reads an index that lies in memory without
copying it; what it expects before the rows is written into a private copy of that page.
"""

import functools
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np

PAGE = 4096
# Rows that are copied or added at once: 64 MB of 512 float32 numbers.
CHUNK = 32768
MIN_LISTED = 1000


def create_vector_file(path: Path) -> None:
    """Makes an empty file."""
    _write(path, 'wb', 0, bytes(PAGE))


def append_vectors(path: Path, vectors: np.ndarray, rows: int, dtype: str) -> None:
    """Writes vectors (n, D) behind the first ``rows`` and forces them to disk."""
    data = np.ascontiguousarray(vectors, dtype=dtype)
    _write(path, 'r+b', PAGE + rows * data[0].nbytes, data.tobytes())


def copy_vectors(source: Path, target: Path, rows: np.ndarray, dim: int, dtype: str) -> None:
    """Writes some rows of a file to a new one, in their order."""
    create_vector_file(target)
    if not len(rows):
        return
    old = VectorFile(source, rows=int(rows[-1]) + 1, dim=dim, dtype=dtype).array
    for start in range(0, len(rows), CHUNK):
        append_vectors(target, old[rows[start : start + CHUNK]], start, dtype)


def _write(path: Path, mode: str, offset: int, data: bytes) -> None:
    with open(path, mode) as file:
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class VectorFile:
    """The first rows of a file, as they are now; later rows do not change it.

    Args:
        path: The file.
        rows: Number of rows to read.
        dim: Numbers in a row.
        dtype: 'float32' or 'float16'.

    Raises:
        ValueError: If the file is shorter.
    """

    def __init__(self, path: Path, *, rows: int, dim: int, dtype: str) -> None:
        self.path, self.rows = path, rows
        size = rows * dim * np.dtype(dtype).itemsize
        present = path.stat().st_size if path.is_file() else 0
        if present < PAGE + size:
            raise ValueError(
                f'{path} is damaged: it has {present} bytes, {rows} vectors take {PAGE + size}; '
                f'delete {path.parent} and index again'
            )
        # Copy on write: the page for faiss is changed in memory alone.
        memory = np.memmap(path, dtype=np.uint8, mode='c', shape=(PAGE + size,))
        # Keeps the memory alive for faiss too.
        self.array = memory[PAGE:].view(dtype).reshape(rows, dim)
        self._index = _faiss_index(memory, rows, dim, dtype)
        self._lists: tuple[Path, faiss.Index] | None = None

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        allowed: np.ndarray | None = None,
        lists: tuple[Path, int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and rows (Q, k) of the largest inner products, best first.

        Args:
            queries: (Q, D) float32.
            k: At most the number of rows.
            allowed: The rows to choose from; None for all.
            lists: A file of :func:`build_lists` and the number of rows in it; later rows are
                searched one by one. None for an exact search.
        """
        if lists is None:
            parts = self._search_range(queries, k, 0, allowed)
        else:
            path, listed = lists
            index = self._open_lists(path)
            options = {} if allowed is None else dict(sel=_selector(allowed, self.rows))
            params = faiss.SearchParametersIVF(nprobe=index.nprobe, **options)
            parts = [_threads().submit(index.search, queries, k, params=params).result()]
            if listed < self.rows:
                parts += self._search_range(queries, k, listed, allowed)
        return _merge(parts, k)

    def _search_range(
        self, queries: np.ndarray, k: int, first: int, allowed: np.ndarray | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Exact results of the rows from ``first`` on, in parts for all queries."""
        threads = faiss.omp_get_max_threads()
        if len(queries) >= threads or allowed is not None:
            selector = faiss.IDSelectorRange(first, self.rows)
            if allowed is not None:
                selector = _selector(allowed[allowed >= first], self.rows)
            params = faiss.SearchParameters(sel=selector)
            chunks = np.array_split(queries, min(threads, len(queries)))
            found = _threads().map(lambda q: self._index.search(q, k, params=params), chunks)
            return [tuple(np.concatenate(part) for part in zip(*found, strict=True))]
        bounds = np.linspace(first, self.rows, threads + 1).astype(int).tolist()
        ranges = [faiss.IDSelectorRange(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]
        return list(
            _threads().map(
                lambda r: self._index.search(queries, k, params=faiss.SearchParameters(sel=r)),
                ranges,
            )
        )

    def _open_lists(self, path: Path) -> faiss.Index:
        if self._lists is None or self._lists[0] != path:
            self._lists = (path, faiss.read_index(str(path), faiss.IO_FLAG_MMAP))
        return self._lists[1]


@functools.cache
def _threads() -> ThreadPoolExecutor:
    # A query waits for memory, not for arithmetic: faiss's own threads, which meet at barriers,
    # made one query five times slower on two busy cores. So each thread here is one of faiss's.
    return ThreadPoolExecutor(
        faiss.omp_get_max_threads(), initializer=lambda: faiss.omp_set_num_threads(1)
    )


def build_lists(vectors: VectorFile, path: Path) -> None:
    """Groups vectors around centres and writes the groups to a file, at once or not at all.

    Raises:
        ValueError: If there are fewer than ``MIN_LISTED``.
    """
    rows, dim = vectors.array.shape
    if rows < MIN_LISTED:
        raise ValueError(
            f'approximate search takes at least {MIN_LISTED} entries, the index holds {rows}: '
            'search it exactly'
        )
    # Four times as many groups as vectors in a group: finer ones miss fewer neighbours for the same
    # number of vectors looked at, and take longer to make.
    groups = 2 ** round(np.log2(rows) / 2 + 1)
    # Half precision in the groups: twice as many vectors looked at in the same time.
    index = faiss.index_factory(dim, f'IVF{groups},SQfp16', faiss.METRIC_INNER_PRODUCT)
    # faiss asks for 39 to 256 vectors a centre.
    step = max(1, rows // (40 * groups))
    index.train(vectors.array[::step].astype(np.float32))
    for start in range(0, rows, CHUNK):
        index.add(vectors.array[start : start + CHUNK].astype(np.float32))
    index.nprobe = max(8, groups // 24)
    partial = path.with_name(f'{path.name}.partial')
    faiss.write_index(index, str(partial))
    with open(partial, 'r+b') as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def _faiss_index(memory: np.ndarray, rows: int, dim: int, dtype: str) -> faiss.Index:
    """An exact index over mapped rows, without a copy of them; ``memory`` must outlive it."""
    if dtype == 'float32':
        index, unit = faiss.IndexFlatIP(dim), 4
    else:
        kind = faiss.ScalarQuantizer.QT_fp16
        index, unit = faiss.IndexScalarQuantizer(dim, kind, faiss.METRIC_INNER_PRODUCT), 1
    # What faiss writes ends with the length of the rows and the rows; here it has none yet.
    index.ntotal = rows
    header = faiss.serialize_index(index).tobytes()[:-8]
    header += struct.pack('<q', (len(memory) - PAGE) // unit)
    memory[PAGE - len(header) : PAGE] = np.frombuffer(header, np.uint8)
    buffer = memory[PAGE - len(header) :]
    return faiss.read_index(faiss.ZeroCopyIOReader(faiss.swig_ptr(buffer), len(buffer)))


def _selector(allowed: np.ndarray, rows: int) -> faiss.IDSelector:
    bits = np.zeros(rows, dtype=bool)
    bits[allowed] = True
    return faiss.IDSelectorBitmap(np.packbits(bits, bitorder='little'))


def _merge(parts: list[tuple[np.ndarray, np.ndarray]], k: int) -> tuple[np.ndarray, np.ndarray]:
    scores = np.concatenate([part[0] for part in parts], axis=1)
    rows = np.concatenate([part[1] for part in parts], axis=1)
    # Equal scores by row; what was not found has row -1 and the lowest score.
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
