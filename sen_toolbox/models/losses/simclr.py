"""Contrast of two views of the same images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.checks import checked_positive
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class SimCLRLoss(nn.Module):
    """Cross-entropy of finding an image's other view among all 2B views but itself.

    SimCLR (NT-Xent), arXiv:2002.05709, equation 1.

    Args:
        temperature: Divides the cosines, above 0. The TBPS-CLIP release takes 0.1.

    Raises:
        ValueError: If the temperature is not above 0.
    """

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = checked_positive('temperature', temperature)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            first: Embeddings (B, D) of the first views, of any length.
            second: Embeddings (B, D) of the second views, in the same order.
        """
        views = F.normalize(torch.cat([first, second]), dim=1)
        logits = views @ views.t() / self.temperature
        itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
        partner = torch.arange(len(views), device=views.device).roll(len(first))
        return F.cross_entropy(logits.masked_fill(itself, -torch.inf), partner)
