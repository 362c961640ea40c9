"""Gives each pair what it is compared with: the whole batch, of all processes and all chunks.

Heads pass to :func:`gather` what their losses compare; losses know no rank, number of processes or
chunk. A head that gathers nothing has a loss that is a mean over pairs. With as many pairs on every
process, the mean of the gradients that DDP takes is then that of one process with all pairs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size
from torch import Tensor


class _GatherWithGradient(torch.autograd.Function):
    """All-gather whose backward sums the gradients that every rank holds for a slot.

    Each rank computes the loss of the whole batch, so the sum is ``world_size`` times the gradient
    and the mean over ranks that DDP takes afterwards gives the gradient of one process.

    Several tensors travel as the bytes of one: a message costs more than what is in it.
    """

    @staticmethod
    def forward(ctx, *tensors: Tensor) -> tuple[Tensor, ...]:
        size = get_world_size()
        rows = [tensor.contiguous().view(-1).view(torch.uint8) for tensor in tensors]
        own = torch.cat(rows)
        slots = own.new_empty(size, len(own))
        dist.all_gather(list(slots), own)
        parts = slots.split([len(row) for row in rows], dim=1)
        # Copied, as a number may not begin at any byte.
        return tuple(
            torch.cat(list(part)).view(tensor.dtype).view(size * len(tensor), *tensor.shape[1:])
            for part, tensor in zip(parts, tensors, strict=True)
        )

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        size, rank = get_world_size(), dist.get_rank()
        wanted = [g for g, needed in zip(gradients, ctx.needs_input_grad, strict=True) if needed]
        # Each rank is sent the gradients of its own slot alone.
        given = torch.cat([g.reshape(size, g.numel() // size) for g in wanted], dim=1)
        received = torch.empty_like(given)
        dist.all_to_all_single(received, given)
        parts = iter(received.sum(dim=0).split([g.numel() // size for g in wanted]))
        return tuple(
            next(parts).view_as(g.chunk(size)[rank]).to(g.dtype) if needed else None
            for g, needed in zip(gradients, ctx.needs_input_grad, strict=True)
        )


class GatheredChunks:
    """Lets the chunks of a batch see each other, as processes see each other.

    First every chunk runs within :meth:`record`, without gradient; then again within
    :meth:`replay`, where :func:`gather` gives the rows of the whole batch, those of the other
    chunks as constants. If the loss of each chunk is weighted by its share of the pairs, the
    gradients add up to those of the batch in one piece.
    """

    def __init__(self) -> None:
        self._rows: list[list[Tensor]] = []
        self._live: tuple[int, float] | None = None
        self._call = 0

    @contextmanager
    def record(self) -> Iterator[None]:
        """Keeps what the next chunk gathers."""
        self._rows.append([])
        self._live = None
        with _active(self):
            yield

    @contextmanager
    def replay(self, index: int, share: float) -> Iterator[None]:
        """Completes what chunk ``index`` gathers; ``share`` of the pairs of the batch are in it."""
        self._live = index, share
        self._call = 0
        with _active(self):
            yield

    @property
    def recording(self) -> bool:
        """Whether this is the first pass."""
        return self._live is None

    @property
    def first(self) -> bool:
        """Whether this chunk is the first to see the rows of all."""
        return self._live is not None and self._live[0] == 0

    def exchange(self, tensor: Tensor) -> Tensor:
        """The rows of all chunks where they are known, else those at hand."""
        if self._live is None:
            self._rows[-1].append(tensor.detach())
            return tensor
        index, share = self._live
        rows = [chunk[self._call] for chunk in self._rows]
        self._call += 1
        # A view, since what the head does with the tensor elsewhere keeps its gradient.
        rows[index] = tensor.view_as(tensor)
        if rows[index].requires_grad:
            # The other chunks have this gradient, too, but see constants; all count by share.
            rows[index].register_hook(lambda gradient: gradient / share)
        return torch.cat(rows)


# What a head gathers for: the chunk that is being computed, or None for a batch in one piece.
_chunks: ContextVar[GatheredChunks | None] = ContextVar('chunks', default=None)


@contextmanager
def _active(chunks: GatheredChunks) -> Iterator[None]:
    token = _chunks.set(chunks)
    try:
        yield
    finally:
        _chunks.reset(token)


def gather(tensor: Tensor) -> Tensor:
    """Concatenates ``tensor`` (B, ...) over ranks to (world_size * B, ...), in rank order.

    Every rank must hold the same number of rows, which the samplers see to. On one process it is
    the tensor itself. What is gathered must not depend on what was gathered before.
    """
    return gather_all(tensor)[0]


def gather_all(*tensors: Tensor) -> tuple[Tensor, ...]:
    """:func:`gather` of several tensors, of any types, in one message between processes."""
    if (chunks := _chunks.get()) is not None:
        tensors = tuple(chunks.exchange(tensor) for tensor in tensors)
        if chunks.recording:
            # The rows of this process are what is kept, and no loss of this pass is.
            return tensors
    if get_world_size() == 1:
        return tensors
    return _GatherWithGradient.apply(*tensors)


def is_first_sight() -> bool:
    """Whether the batch that :func:`gather` gives now is new: each of its chunks sees all of it.

    A head that keeps for ``after_step`` what it gathered does so only then.
    """
    chunks = _chunks.get()
    return chunks is None or chunks.first


def widened(tensor: Tensor) -> Tensor:
    """``tensor`` in at least float32, as losses compare in any precision; float64 stays float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def global_sum(tensor: Tensor) -> Tensor:
    """Sum of ``tensor`` over ranks, the same on each; it has one shape on all of them.

    A mean over items that ranks hold in different numbers is the quotient of two such sums, and
    the gradient of :func:`gather` makes it that of one process.
    """
    return gather(tensor[None]).sum(dim=0)
