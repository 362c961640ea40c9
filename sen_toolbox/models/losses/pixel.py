"""Reconstruction errors of masked patches."""

import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class MaskedPixelLoss(nn.Module):
    """Mean squared error of the pixels, or other values, of the hidden patches.

    MAE, arXiv:2111.06377, section 3, without normalising each patch (the SEN release's setting).
    """

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            predicted: Values of each scored patch (B, S, V).
            target: True values (B, S, V).
        """
        return F.mse_loss(predicted, target)


@LOSSES.register_module()
class MaskedPixelL1Loss(nn.Module):
    """Mean absolute error of the pixels, or other values, of the hidden patches.

    SimMIM, arXiv:2111.09886, and VFE-TPS, arXiv:2412.20646, whose release has a weight of 10.
    """

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            predicted: Values of each scored patch (B, S, V).
            target: True values (B, S, V).
        """
        return F.l1_loss(predicted, target)
