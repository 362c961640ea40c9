"""Ends the making of a model that a file describes and cannot hold, such as one of 10**9 layers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.modules.module import register_module_parameter_registration_hook


class TooManyError(ValueError):
    """A model has more parameters than its file has tensors."""


@contextmanager
def at_most(tensors: int) -> Iterator[None]:
    """Refuses a model that is made in the block, once it cannot be of so many tensors any more.

    Args:
        tensors: How many the file holds. Of parameters there may be four times as many and a
            thousand, since some are left out again, or made twice.

    Raises:
        TooManyError: As soon as there are more.
    """
    limit, count, thread = 1000 + 4 * tensors, 0, threading.get_ident()

    def registered(*_: object) -> None:
        nonlocal count
        # torch calls it for the models of other threads, too.
        count += threading.get_ident() == thread
        if count > limit:
            raise TooManyError(
                f'it describes more than {limit} parameters, and the file holds {tensors} tensors'
            )

    handle = register_module_parameter_registration_hook(registered)
    try:
        yield
    finally:
        handle.remove()
