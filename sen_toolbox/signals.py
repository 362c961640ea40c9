"""Notices that the process is asked to end (SIGTERM, Ctrl-C) and leaves it to others to stop."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)
# Launchers pass on a signal that the process got from the terminal, Slurm or timeout itself: what
# comes so soon after the first is the same wish.
SAME_WISH_SECONDS = 1.0


class StopSignals:
    """Within the block SIGINT and SIGTERM end nothing: ``received`` is the first of them, or None.

    Another one, more than a second later, ends the process at once, with status 128 plus its number
    and whatever the process is waiting for. To be entered by the main thread.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> 'StopSignals':
        # Python calls handlers in the main thread, which may be waiting for another process or a
        # GPU. What it writes here when a signal comes is read by a thread that does not wait.
        self._read, self._written = socket.socketpair()
        self._written.setblocking(False)
        self._former_fd = signal.set_wakeup_fd(self._written.fileno(), warn_on_full_buffer=False)
        self._former = {number: signal.signal(number, _nothing) for number in STOPPING}
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_fd)
        # Which ends the thread.
        self._written.close()

    def _watch(self) -> None:
        first = 0.0
        while number := self._read.recv(1):
            if number[0] not in STOPPING:
                continue
            if self.received is None:
                self.received, first = number[0], time.monotonic()
            elif time.monotonic() - first > SAME_WISH_SECONDS:
                os._exit(128 + number[0])
        self._read.close()


def sheltering_fork() -> BaseContext:
    """Starts the workers of a loader so that none is ended before it is a ``ShelteredWorker``."""
    # Here, since not every system forks.
    from multiprocessing.context import ForkContext, ForkProcess

    class BornSheltered(ForkProcess):
        """Inherits that SIGTERM is blocked."""

        def start(self) -> None:
            former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            try:
                super().start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, former)

    class ShelteringFork(ForkContext):
        Process = BornSheltered

    return ShelteringFork()


class ShelteredWorker:
    """Starts a worker of a data loader that only its own process ends.

    Ctrl-C, Slurm and launchers signal the workers too. A loader whose worker has ended raises in
    the middle of a step.

    Args:
        init: The loader's own ``worker_init_fn``.
    """

    def __init__(self, init: Callable[[int], None] | None) -> None:
        self.init = init

    def __call__(self, worker: int) -> None:
        """To be called first in the worker's process."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Blocked in this thread and those that it starts, so that the one below gets it and learns
        # who sent it: torch ends workers by SIGTERM. An orphan ends by itself.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_for, args=(os.getppid(),), daemon=True).start()
        if self.init is not None:
            self.init(worker)


def _end_for(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _nothing(*_: Any) -> None:
    """A handler, without which Python would not write the signal's number."""
