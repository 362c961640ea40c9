"""Several projections of one feature, each what it was and something added."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualProjections(nn.Module):
    """Projection m of x is x + W'_m relu(W_m x), the same for all parts.

    Args:
        count: Number M of projections.
        width: Width F of a part.
        narrow: Width between both layers.
    """

    def __init__(self, *, count: int, width: int, narrow: int) -> None:
        super().__init__()
        self.count = count
        # As layers of torch begin.
        self.narrow = nn.Parameter(torch.empty(count, narrow, width).uniform_(-1, 1) / width**0.5)
        self.widen = nn.Parameter(torch.empty(count, width, narrow).uniform_(-1, 1) / narrow**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, M, K, F) of parts (B, K, F)."""
        inner = F.relu(F.linear(x, self.narrow.flatten(0, 1))).unflatten(2, (self.count, -1))
        return x[:, None] + inner.transpose(1, 2) @ self.widen.transpose(1, 2)
