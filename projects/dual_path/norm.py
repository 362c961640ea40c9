"""Batch norm that averages standard deviations over batches, as MatConvNet does."""

import torch
from torch import Tensor

from sen_toolbox.models.batch_norm import GlobalBatchNorm
from sen_toolbox.models.gather import gather, widened

EPSILON, MOMENTUM = 1e-3, 0.05  # the release's


class DeviationBatchNorm(GlobalBatchNorm):
    """Batch norm whose running variance is the square of an averaged deviation, less epsilon.

    Averaged is ``sqrt(variance + epsilon)`` of each batch, with the biased variance.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON, momentum=MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises rows (R, C) or maps (B, C, ...); every rank holds the same number of them."""
        if not self.training:
            return super().forward(x)
        # The copy takes torch's own update; what a backward pass keeps must not change afterwards.
        kept, self.running_var = self.running_var, self.running_var.clone()
        normal = super().forward(x)
        self.running_var = kept
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            deviation = (_biased_variance(widened(x)) + self.eps).sqrt().to(kept)
            mixed = (kept + self.eps).sqrt().lerp(deviation, self.momentum)
            kept.copy_(mixed.square() - self.eps)
        return normal


def _biased_variance(x: Tensor) -> Tensor:
    """Variance (C,) over everything but the channels, of all ranks."""
    others = [dim for dim in range(x.ndim) if dim != 1]
    mean = gather(x.mean(dim=others)[None]).mean(dim=0)
    distance = x - mean.view([-1 if dim == 1 else 1 for dim in range(x.ndim)])
    return gather(distance.square().mean(dim=others)[None]).mean(dim=0)
