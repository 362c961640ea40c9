"""Keeps freed memory with the process, so that the next batch need not ask the system for it."""

import ctypes

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Larger blocks go back to the system. A batch of 128 images of 384 x 128 is 72 MiB in float32.
# Older versions of glibc take no more than the second.
_LARGEST_KEPT = (128 * 2**20, 32 * 2**20)
_KEPT = 2**30


def keep_freed_memory() -> None:
    """Makes glibc keep freed blocks of up to 128 MiB, 1 GiB of them at the end of its heap.

    By default it returns what a batch of images took, and the system hands it out again page by
    page, cleared, for the next. Numbers stay the same. Holds for the process and those that it
    forks; does nothing with other C libraries.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST_KEPT)
    mallopt(_TRIM_THRESHOLD, _KEPT)
