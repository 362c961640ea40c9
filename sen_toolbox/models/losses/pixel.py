"""Reconstruction error of masked patches."""

from torch import Tensor, nn

from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class MaskedPixelLoss(nn.Module):
    """Mean squared error of the pixels of the scored patches.

    MAE, arXiv:2111.06377, section 3, without normalising each patch (the SEN release's setting).
    """

    def forward(self, predicted: Tensor, target: Tensor, scored: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            predicted: Pixels of each patch (B, N, P).
            target: True pixels (B, N, P).
            scored: Whether a patch counts, boolean (B, N); at least one does.
        """
        error = (predicted - target).square().mean(dim=-1)
        weight = scored.to(error.dtype)
        return (error * weight).sum() / weight.sum()
