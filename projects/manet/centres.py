"""Parts by how positions of a map, or words, relate to learnt centres."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.manet.suppression import NormedLinear


class PartCentres(nn.Module):
    """Sums of positions, each weighted, channel by channel, by its relation to a centre.

    Args:
        width: Width of a position.
        parts: Number K of centres.
        part_width: Width of a part.
    """

    def __init__(self, *, width: int, parts: int, part_width: int) -> None:
        super().__init__()
        self.conv = nn.Linear(width, part_width)
        self.centroids = nn.Parameter(torch.rand(parts, part_width))
        narrow = part_width // 4
        self.theta = NormedLinear(part_width, narrow)
        # All processes have the same centres, so their own statistics are those of all.
        self.phi = nn.ModuleDict(
            {'fc': nn.Linear(part_width, narrow), 'bn': nn.BatchNorm1d(narrow)}
        )
        self.rm = NormedLinear(narrow, part_width)

    def forward(self, positions: Tensor) -> Tensor:
        """Returns (B, K, part_width) of positions (B, L, width)."""
        x = self.conv(F.normalize(positions, dim=2))
        here = F.relu(self.theta(x))
        there = F.relu(self.phi['bn'](self.phi['fc'](self.centroids)))
        # The layer of a difference is the difference of the layers.
        here, there = self.rm.fc(here), F.linear(there, self.rm.fc.weight)
        relations = F.relu(self.rm.norm(here[:, :, None] - there))
        return (relations * x[:, :, None]).sum(dim=1)
