"""Several processes in a test, forked from one that has imported what takes seconds to import."""

import gc
import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress

import torch
import torch.multiprocessing as mp

# Each name is imported once for all processes of a session; a missing one is passed over.
IMPORTED = ['torch', 'torchvision', 'mmengine.runner', 'open_clip', 'sen_toolbox.models']


def run_ranks(work: Callable, *args: object, ranks: int) -> None:
    """Call ``work(rank, *args)`` in each process and wait; an error in one is raised here.

    A fork of the test's own process will not do, as gradients were computed in it before.
    """
    multiprocessing.set_forkserver_preload(IMPORTED)
    mp.start_processes(_on_one_thread, (work, *args), nprocs=ranks, start_method='forkserver')


def share_cores() -> None:
    """Prepares a process that has been forked for work beside others; they are more than cores."""
    with suppress(AttributeError, OSError):  # not every system has it, nor container allows it
        # A thread that wakes waits its turn: gloo's spins while another of its process, driven from
        # the core in the midst of a message, holds a lock.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    # What the imports left is no garbage; MMEngine collects it whenever a data set is built.
    gc.freeze()


def _on_one_thread(rank: int, work: Callable, *args: object) -> None:
    """Processes share the cores; with several threads each they mostly wait for each other."""
    torch.set_num_threads(1)
    share_cores()
    work(rank, *args)
