"""Vectors in a file of fixed rows and nothing else, mapped into memory."""

import os
from pathlib import Path

import numpy as np

# Rows that are copied at once: 64 MB of 512 float32 numbers.
CHUNK = 32768


def create_vector_file(path: Path) -> None:
    """Makes an empty file."""
    _write(path, 'wb', 0, b'')


def append_vectors(path: Path, vectors: np.ndarray, rows: int, dtype: str) -> None:
    """Writes vectors (n, D) behind the first ``rows`` and forces them to disk.

    Raises:
        ValueError: If the file is shorter.
    """
    check_vector_file(path, rows=rows, dim=vectors.shape[1], dtype=dtype)
    data = np.ascontiguousarray(vectors, dtype=dtype)
    _write(path, 'r+b', rows * data[0].nbytes, data.tobytes())


def copy_vectors(source: Path, target: Path, rows: np.ndarray, dim: int, dtype: str) -> None:
    """Writes some rows of a file, ascending, to a new one."""
    create_vector_file(target)
    if not len(rows):
        return
    old = map_vectors(source, rows=int(rows[-1]) + 1, dim=dim, dtype=dtype)
    for start in range(0, len(rows), CHUNK):
        append_vectors(target, old[rows[start : start + CHUNK]], start, dtype)


def map_vectors(path: Path, *, rows: int, dim: int, dtype: str) -> np.ndarray:
    """The first rows (rows, dim) of a file, read-only; later rows do not change them.

    Raises:
        ValueError: If the file is shorter.
    """
    check_vector_file(path, rows=rows, dim=dim, dtype=dtype)
    if not rows:  # nothing cannot be mapped
        return np.empty((0, dim), dtype=dtype)
    # A plain array over the mapping: slices of np.memmap cost more than a small product.
    return np.asarray(np.memmap(path, dtype=dtype, mode='r', shape=(rows, dim)))


def check_vector_file(path: Path, *, rows: int, dim: int, dtype: str) -> None:
    """Refuses a file that holds less than some rows.

    Raises:
        ValueError: Names the file.
    """
    size = rows * dim * np.dtype(dtype).itemsize
    present = path.stat().st_size if path.is_file() else -1
    if present < size:
        raise ValueError(
            f'{path} is damaged: it has {max(present, 0)} bytes, {rows} vectors take {size}; '
            'index into another folder'
        )


def _write(path: Path, mode: str, offset: int, data: bytes) -> None:
    with open(path, mode, opener=_open_no_link) as file:
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _open_no_link(path: str, flags: int) -> int:
    # A link in a folder from elsewhere would lead to another file. Windows cannot say so.
    return os.open(path, flags | getattr(os, 'O_NOFOLLOW', 0), 0o666)
