"""Parts of a person that look at each other."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.batch_norm import GlobalBatchNorm
from sen_toolbox.models.parts import PartLinear

# The slope of every leaky ReLU of the release.
SLOPE = 0.25


class NonLocalParts(nn.Module):
    """Adds to each part what the others have that it resembles, then projects it.

    With key :math:`p_k` and query :math:`c_k` of part :math:`k`, unit vectors, part :math:`j`
    receives :math:`\\sum_i a_{ij} p_i` with :math:`a_{ij}` the softmax over :math:`i \\ne j` of
    :math:`p_i^\\top c_j`.

    Args:
        parts: Number K of parts, at least 2.
        width: Width of a part.
        out_width: Width of what comes out.
    """

    def __init__(self, *, parts: int, width: int, out_width: int) -> None:
        super().__init__()
        self.key = PartLinear(parts, width, width // 2)
        self.query = PartLinear(parts, width, width // 2)
        self.widen = PartLinear(parts, width // 2, width)
        # All parts side by side: each channel has its own statistics.
        self.norm = GlobalBatchNorm(parts * width)
        self.project = PartLinear(parts, width, out_width)
        self.register_buffer('itself', torch.eye(parts, dtype=torch.bool), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, K, A) of parts (B, K, F)."""
        keys = F.normalize(F.leaky_relu(self.key(x), SLOPE), dim=2)
        queries = F.normalize(F.leaky_relu(self.query(x), SLOPE), dim=2)
        alike = (keys @ queries.transpose(1, 2)).masked_fill(self.itself, -torch.inf)
        received = alike.softmax(dim=1).transpose(1, 2) @ keys
        wide = self.norm(self.widen(received).flatten(1)).view_as(x)
        return self.project(x + F.leaky_relu(wide, SLOPE))
