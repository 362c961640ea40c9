"""Gathers a tensor from all ranks and carries the gradient back, so losses see the global batch."""

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size
from torch import Tensor


class _GatherWithGradient(torch.autograd.Function):
    """All-gather whose backward sums the gradients that every rank holds for a slot.

    Each rank computes the loss of the whole batch, so the sum is ``world_size`` times the gradient
    and the mean over ranks that DDP takes afterwards gives the gradient of one process.
    """

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        slots = [torch.empty_like(tensor) for _ in range(get_world_size())]
        dist.all_gather(slots, tensor.contiguous())
        return torch.cat(slots)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(get_world_size())[dist.get_rank()]


def gather(tensor: Tensor) -> Tensor:
    """Concatenates ``tensor`` (B, ...) over ranks to (world_size * B, ...), in rank order.

    Every rank must hold the same number of rows; the samplers drop an uneven tail. On one process
    it is the tensor itself.
    """
    if get_world_size() == 1:
        return tensor
    return _GatherWithGradient.apply(tensor)
