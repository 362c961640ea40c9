"""Features of body parts: stripes of a map, a linear layer for each, and how alike they are."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def stripe_maxima(maps: Tensor, count: int) -> Tensor:
    """Maxima (B, count, C) over stripes of all columns of maps (B, C, h, w), from the top down.

    Neighbours share a row where h is not a multiple of their number.
    """
    # Not adaptive_max_pool2d, which gives the same and which ONNX lacks.
    rows = maps.shape[2]
    bounds = ((k * rows // count, -(-(k + 1) * rows // count)) for k in range(count))
    return torch.stack([maps[:, :, top:end].amax(dim=(2, 3)) for top, end in bounds], dim=1)


class PartLinear(nn.Module):
    """A linear layer of its own for each part, all computed at once.

    Args:
        parts: Number K of parts.
        in_features: Width of a part.
        out_features: Width of the result.
        bias: Whether something is added.
    """

    def __init__(
        self, parts: int, in_features: int, out_features: int, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(parts, out_features, in_features))
        # As convolutions of 1 x 1 begin in methods of parts: Kaiming, by the width of the result.
        nn.init.normal_(self.weight, std=(2 / out_features) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(parts, out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, K, out) of parts (B, K, in)."""
        y = (x.transpose(0, 1) @ self.weight.transpose(1, 2)).transpose(0, 1)
        return y if self.bias is None else y + self.bias


def likeness(parts: Tensor) -> Tensor:
    """How alike the K parts (B, K, W) are: length of the cosines of different ones, by K * K."""
    wide = parts.to(torch.promote_types(parts.dtype, torch.float32))
    unit = F.normalize(wide, dim=2)
    with torch.autocast(parts.device.type, enabled=False):
        cosines = unit @ unit.transpose(1, 2)
        same = torch.eye(parts.shape[1], dtype=torch.bool, device=parts.device)
        return cosines.masked_fill(same, 0).flatten(1).norm(dim=1).mean() / parts.shape[1] ** 2
