"""Reconstruction error of masked patches."""

import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class MaskedPixelLoss(nn.Module):
    """Mean squared error of the pixels of the hidden patches.

    MAE, arXiv:2111.06377, section 3, without normalising each patch (the SEN release's setting).
    """

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            predicted: Pixels of each scored patch (B, S, P).
            target: True pixels (B, S, P).
        """
        return F.mse_loss(predicted, target)
