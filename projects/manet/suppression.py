"""Leaves out of a map what only images have."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.batch_norm import GlobalBatchNorm


class NormedLinear(nn.Module):
    """A linear layer and batch norm over all positions.

    Args:
        in_width: Width of what comes in.
        out_width: Width of what comes out.
    """

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_width, out_width)
        self.bn = GlobalBatchNorm(out_width)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (..., out) of positions (..., in)."""
        return self.norm(self.fc(x))

    def norm(self, x: Tensor) -> Tensor:
        """The batch norm of (..., out)."""
        return self.bn(x.flatten(0, -2)).view_as(x)


class RelationMask(nn.Module):
    """Weighs the channels of each position by what it is and how it differs from all positions.

    Args:
        width: Channels C of a map.
        positions: Number N of its positions.
        narrow: Width in which positions are compared.
        relation: Width of what is kept of each comparison.
    """

    def __init__(self, *, width: int, positions: int, narrow: int, relation: int) -> None:
        super().__init__()
        self.theta = NormedLinear(width, narrow)
        self.phi = NormedLinear(width, narrow)
        self.re = NormedLinear(narrow, relation)
        self.att = NormedLinear(width + positions * relation, width)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, N, C) of positions (B, N, C)."""
        first, second = F.relu(self.theta(x)), F.relu(self.phi(x))
        # The layer of a difference is the difference of the layers, in much less memory.
        first, second = self.re.fc(first), F.linear(second, self.re.fc.weight)
        relations = F.relu(self.re.norm(first[:, :, None] - second[:, None]))
        return x * self.att(torch.cat([x, relations.flatten(2)], dim=2)).sigmoid()


class ChannelFiltration(nn.Module):
    """Takes the style of an image out of a map and gives back the channels that matter.

    Args:
        width: Channels C of a map.
        narrow: Width between the layers that weigh channels.
    """

    def __init__(self, *, width: int, narrow: int) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(width, affine=True)
        self.squeeze = nn.Linear(width, narrow, bias=False)
        self.excite = nn.Linear(narrow, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, C, h, w) of maps (B, C, h, w)."""
        plain = self.norm(x)
        style = x - plain
        share = self.excite(F.relu(self.squeeze(style.mean(dim=(2, 3))))).sigmoid()
        return plain + share[:, :, None, None] * style + x
