"""A GPU that holds no numbers, on any machine: shapes, types and devices of what a model computes.

What would make the host wait for the device is refused, apart from the parts of two tables.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sen_toolbox.models.features import TextFeatures
from sen_toolbox.text.tokens import Tokens

# With its number: without, torch asks the driver for the current one.
DEVICE = torch.device('cuda:0')
# Parts of which the host needs to know how many elements are not 0, and why. Here all are.
COUNTS = {
    'MaskedWordHead': 'it scores the vocabulary at the masked words alone, about 4 of 77',
    'MaskedCaptionHead': 'the same',
    'HiddenColourHead': 'the same, of hidden colours',
    'ColourBranchesHead': 'it matches colours of the captions alone that name some',
}
# Parts that need lengths on the host, and why. Here the CPU computes them, as if ids were all 1.
READS = {
    'RecurrentTextEncoder': 'torch packs captions by lengths that it wants on the CPU',
    'RecurrentBERT': 'the same',
}


class WaitError(AssertionError):
    """The host waits for the device in a part that has no place in the tables."""


class FakeDevice(TorchDispatchMode):
    """Refuses what makes the host wait; to be entered within a ``FakeTensorMode``."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[str] = []
        self.waited: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        try:
            result = func(*args, **(kwargs or {}))
        except (DynamicOutputShapeException, DataDependentOutputException) as error:
            self._wait(func, COUNTS, error)
            if func is not torch.ops.aten.nonzero.default:
                raise
            return args[0].new_empty((args[0].numel(), args[0].dim()), dtype=torch.int64)
        if torch.device('cpu') in _devices(result) and _devices(args) == {DEVICE}:
            self._wait(func, {}, None)
        return result

    def _wait(self, func, allowed: dict[str, str], error: Exception | None) -> None:
        parts = [part for part in self.running if part in allowed]
        if not parts:
            within = ' > '.join(self.running) or 'no part'
            raise WaitError(f'the host waits for {func} in {within}') from error
        self.waited.update(parts)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Tells parts apart by the modules that run."""

        def enters(module: nn.Module, *_) -> None:
            self.running.append(type(module).__name__)

        def leaves(*_) -> None:
            self.running.pop()

        before = nn.modules.module.register_module_forward_pre_hook(enters)
        after = nn.modules.module.register_module_forward_hook(leaves, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()


def _devices(value: object) -> set[torch.device]:
    return {leaf.device for leaf in tree_leaves(value) if isinstance(leaf, Tensor)}


@contextmanager
def fake_device(dtype: torch.dtype) -> Iterator[FakeDevice]:
    """Computes on the device under autocast, without gradient.

    A backward pass asks the driver for streams. So does ``torch.autocast`` and what selects the
    kernel of attention; the one that needs no choice has the same shapes and types.
    """
    enabled, before = torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(FakeTensorMode())
        device = stack.enter_context(FakeDevice())
        stack.enter_context(device.watching())
        torch.set_autocast_enabled('cuda', True)
        torch.set_autocast_dtype('cuda', dtype)
        try:
            yield device
        finally:
            torch.set_autocast_enabled('cuda', enabled)
            torch.set_autocast_dtype('cuda', before)
            torch.clear_autocast_cache()


def move_to_fake_device(module: nn.Module) -> None:
    """Moves what a model or a part holds to the device; to be called within ``fake_device``.

    A tensor that is neither a parameter nor a buffer stays where it is, as it would in training.
    """
    if READS.keys() & {kind.__name__ for kind in type(module).__mro__}:
        _compute_on_host(module)
        return
    if isinstance(module, nn.LSTM):
        _leave_out(module)
    for name, value in module._parameters.items():
        if value is not None:
            module._parameters[name] = nn.Parameter(empty_like(value), value.requires_grad)
    for name, value in module._buffers.items():
        if value is not None:
            module._buffers[name] = empty_like(value)
    for part in module.children():
        move_to_fake_device(part)


def empty_like(value: Tensor, device: torch.device = DEVICE) -> Tensor:
    """A fake tensor of the shape and type of a real one."""
    return torch.empty(value.shape, dtype=value.dtype, device=device)


def _leave_out(lstm: nn.LSTM) -> None:
    """Gives states of the right shape and type without a kernel: cuDNN's asks for a driver."""

    def forward(words: Tensor, start: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, None]:
        dtype = torch.get_autocast_dtype('cuda')
        return words.new_empty((*words.shape[:2], lstm.hidden_size), dtype=dtype), None

    lstm.forward = forward


def _compute_on_host(part: nn.Module) -> None:
    """Lets the CPU compute a text encoder of ``READS`` on captions of full length; changes it."""
    encode = part.forward

    def forward(tokens: Tokens, reads: frozenset[str] = frozenset()) -> TextFeatures:
        with unset_fake_temporarily():
            ids = torch.ones(tokens.ids.shape, dtype=torch.int64)
            features = encode(Tokens(ids, ids > 0, ids[:, 0]), reads)
        found = {field.name: getattr(features, field.name) for field in fields(features)}
        moved = {k: empty_like(v) for k, v in found.items() if isinstance(v, Tensor)}
        moved['extra'] = {k: empty_like(v) for k, v in features.extra.items()}
        return replace(features, **moved)

    part.forward = forward
