"""Freed memory stays with the process."""

import ctypes
import platform
import subprocess
import sys

import pytest

from sen_toolbox.allocator import keep_freed_memory

COUNT_FAULTS = """
import resource
import numpy as np
from sen_toolbox.allocator import keep_freed_memory

def batch():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    images = [np.ones(200_000, np.uint8) for _ in range(64)]
    np.ones(sum(map(len, images)), np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if {kept}:
    keep_freed_memory()
print([batch() for _ in range(6)][-1])
"""


def faults(kept):
    """Pages that the system hands out again for the like of an earlier batch."""
    code = COUNT_FAULTS.format(kept=kept)
    return int(subprocess.run([sys.executable, '-c', code], capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='other C libraries stay as they are')
def test_a_batch_takes_the_memory_of_the_one_before():
    assert faults(kept=True) < 100 < 1000 < faults(kept=False)


@pytest.mark.parametrize('error', [AttributeError, OSError, TypeError])
def test_other_c_libraries_stay_as_they_are(error, monkeypatch):
    def library(name):
        raise error

    monkeypatch.setattr(ctypes, 'CDLL', library)
    keep_freed_memory()
