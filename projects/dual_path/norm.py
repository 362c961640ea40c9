"""Batch norm that averages standard deviations over batches, as MatConvNet does."""

import torch
from mmengine.dist import get_world_size
from torch import Tensor

from sen_toolbox.models.batch_norm import GlobalBatchNorm

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
        """Normalises rows (R, C) or maps (B, C, ...); every rank holds the same number of them.

        Raises:
            ValueError: If there is nothing to average in training.
        """
        if not self.training or get_world_size() > 1:
            return super().forward(x)
        self._check_count(x)
        # Torch's own, which tells what it divided by: to find it again would read x twice more.
        normal, mean, inverse = torch.native_batch_norm(
            x, self.weight, self.bias, None, None, True, 0.0, self.eps
        )
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.num_batches_tracked += 1
            self._follow(self.running_var, inverse.reciprocal())
        return normal

    def _learn(self, mean: Tensor, variance: Tensor, count: int) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self._follow(self.running_var, (variance + self.eps).sqrt())

    def _follow(self, variance: Tensor, deviation: Tensor) -> None:
        """Moves the running variance by a batch's deviation, both (C,)."""
        mixed = (variance + self.eps).sqrt().lerp(deviation.to(variance), self.momentum)
        variance.copy_(mixed.square() - self.eps)
