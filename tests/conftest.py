"""One thread: sums split among threads differ in the last bit, and tests compare bits."""

import os

import pytest

# Read when torch is imported, here and in the processes that tests start.
os.environ['OMP_NUM_THREADS'] = '1'


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A folder with a config, its checkpoint, their model file, and crops to search."""
    # Imports torch, which is to read the environment first.
    from small_model import write_model_and_crops

    return write_model_and_crops(tmp_path_factory.mktemp('made'))
