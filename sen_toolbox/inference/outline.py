"""Models whose numbers come from a file: built without drawing any, or without memory for them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# What fills a tensor with drawn numbers, of torch.nn.init by name.
FILLING = (Tensor.normal_, Tensor.uniform_)
INITS = {'normal_', 'uniform_', 'trunc_normal_', 'kaiming_normal_', 'kaiming_uniform_',
         'xavier_normal_', 'xavier_uniform_'}  # fmt: skip


class NothingDrawn(TorchFunctionMode):
    """What is built in the block holds one number over and over, or any, where it would draw some.

    Drawing those of a ViT-B/16 takes as long as to load all else.
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, '__module__', None) == nn.init.__name__ and func.__name__ in INITS:
            return args[0] if args else kwargs['tensor']
        if func in FILLING:
            # Their mean or lowest: what draws until all are within bounds would never end else.
            tensor, *given = args
            return tensor.fill_(given[0] if given else kwargs.get('mean', kwargs.get('from', 0)))
        return func(*args, **kwargs)


@contextmanager
def without_numbers() -> Iterator[None]:
    """What is built in the block has shapes alone: its tensors are of the device ``meta``.

    Nothing is drawn, for which torch would import its compiler.
    """
    with torch.device('meta'), NothingDrawn():
        yield
