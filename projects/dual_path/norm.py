"""Batch norm that averages standard deviations over batches, as MatConvNet does."""

import torch
from mmengine.dist import get_world_size
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
        """Normalises rows (R, C) or maps (B, C, ...); every rank holds the same number of them.

        Raises:
            ValueError: If there is nothing to average in training.
        """
        if not self.training:
            return super().forward(x)
        if get_world_size() > 1:
            return self._over_ranks(x)
        if x.numel() == x.shape[1]:
            raise ValueError(
                f'batch norm needs more than one value of each channel in training, got '
                f'{tuple(x.shape)}: take a larger batch'
            )
        # Torch's own, which tells what it divided by: to find it again would read x twice more.
        normal, mean, inverse = torch.native_batch_norm(
            x, self.weight, self.bias, None, None, True, 0.0, self.eps
        )
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.num_batches_tracked += 1
            self._follow(self.running_var, inverse.reciprocal())
        return normal

    def _over_ranks(self, x: Tensor) -> Tensor:
        # The copy takes the update of variances.
        kept, self.running_var = self.running_var, self.running_var.clone()
        normal = super().forward(x)
        self.running_var = kept
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            self._follow(kept, (_biased_variance(widened(x)) + self.eps).sqrt())
        return normal

    def _follow(self, variance: Tensor, deviation: Tensor) -> None:
        """Moves the running variance by a batch's deviation, both (C,)."""
        mixed = (variance + self.eps).sqrt().lerp(deviation.to(variance), self.momentum)
        variance.copy_(mixed.square() - self.eps)


def _biased_variance(x: Tensor) -> Tensor:
    """Variance (C,) over everything but the channels, of all ranks."""
    others = [dim for dim in range(x.ndim) if dim != 1]
    mean = gather(x.mean(dim=others)[None]).mean(dim=0)
    distance = x - mean.view([-1 if dim == 1 else 1 for dim in range(x.ndim)])
    return gather(distance.square().mean(dim=others)[None]).mean(dim=0)
