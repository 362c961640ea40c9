"""What Python tells its audit hooks, for as long as somebody listens."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, tuple], None]
_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hands each event and its arguments to a function within the block."""
    _hear()
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@functools.cache
def _hear() -> None:
    # One for all: a process never loses a hook, and each slows whatever it does from then on.
    sys.addaudithook(_tell)


def _tell(event: str, arguments: tuple) -> None:
    for listener in tuple(_listeners):
        listener(event, arguments)
