"""What holds for all tests: threads, garbage, order, and a small model to search with."""

import gc
import os
import shutil
import sys
import tempfile
from collections import Counter
from types import SimpleNamespace

import pytest

# The collection of tests makes much and leaves no garbage to speak of; a fifth of its time.
gc.disable()
# One thread unless the caller says otherwise: two workers share two cores. Read when torch is
# imported, here and in the processes that tests start.
os.environ.setdefault('OMP_NUM_THREADS', '1')
# Where there are more, those that wait leave the core to other processes.
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
# Thousands of small files are made and removed; a disk takes a third of the time for that. Some
# containers give this folder 64 MB.
IN_MEMORY, ROOM = '/dev/shm', 8 * 2**30
if os.path.isdir(IN_MEMORY) and shutil.disk_usage(IN_MEMORY).free >= ROOM:
    os.environ.setdefault('TMPDIR', IN_MEMORY)
    tempfile.tempdir = None  # pytest has looked for a folder already


def pytest_collection_modifyitems(items):
    """Files with most slow tests first, so that no worker is left with one of them at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker('slow'))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish():
    """Collect garbage from here on, but not among what the imports left."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope='session')
def nothing_waits_for_the_disk_or_for_garbage():
    """A fifth of the time of a small training otherwise.

    Only a loss of power shows whether a file was synchronised. MMEngine collects garbage whenever
    a data set is built. Python looks for some after 700 new objects, of which a small training or
    an export makes millions.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(50_000, 10, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, 'fsync', lambda file: None)
        patch.setattr('mmengine.dataset.base_dataset.gc', SimpleNamespace(collect=lambda: 0))
        yield
    gc.set_threshold(*thresholds)


@pytest.fixture(autouse=True, scope='session')
def servers_are_those_of_the_tests(tmp_path_factory):
    """Queries ask no server of whoever runs the tests, and servers leave nothing in his folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_RUNTIME_DIR', str(tmp_path_factory.mktemp('runtime')))
        yield


@pytest.fixture(autouse=True)
def no_log_is_left():
    """MMEngine's current log is that of the last run, whose folder is gone after its test."""
    yield
    if 'mmengine.logging' in sys.modules:
        sys.modules['mmengine.logging'].MMLogger._instance_dict.clear()


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A folder with a config, its checkpoint, their model file, and crops to search."""
    # Imports torch, which is to read the environment first.
    from small_model import write_model_and_crops

    return write_model_and_crops(tmp_path_factory.mktemp('made'))


@pytest.fixture(scope='session')
def drawn_people(tmp_path_factory):
    """A folder of few drawn people that every config can read."""
    from small_configs import write_drawn_people

    return write_drawn_people(tmp_path_factory.mktemp('drawn'))


@pytest.fixture(scope='session')
def written_hub(tmp_path_factory):
    """A cache of huggingface_hub with small models of open_clip in it."""
    from hub_cache import use_cache, write_cache

    cache = tmp_path_factory.mktemp('hub')
    with pytest.MonkeyPatch.context() as patch:
        use_cache(patch, cache)
        write_cache(cache)
    return cache


@pytest.fixture
def hub(written_hub, tmp_path, monkeypatch):
    """A copy of it that a test may change, in the place of the user's; there is no network."""
    from hub_cache import use_cache

    copy = tmp_path / 'hub'
    shutil.copytree(written_hub, copy)
    use_cache(monkeypatch, copy)
    return copy


@pytest.fixture
def asked(monkeypatch):
    """What was asked of the network, which has nothing."""
    calls = []

    def download(repo, file, **_):
        calls.append((repo, file))
        raise OSError('no network')

    monkeypatch.setattr('huggingface_hub.hf_hub_download', download)
    return calls
