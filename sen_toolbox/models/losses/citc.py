"""Cyclic consistency of the similarities within and across modalities."""

import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class CITCLoss(nn.Module):
    r"""Mean squared differences of cosines that should agree.

    CyCLIP, arXiv:2205.14459, as TBPS-CLIP's C-ITC: within the modalities, two images are as similar
    as their captions; across them, image i and caption j are as similar as image j and caption i.

    Args:
        in_modal: Weight of the first. The release takes 0.25.
        cross_modal: Weight of the second. The release takes 0.25.
    """

    def __init__(self, *, in_modal: float = 0.25, cross_modal: float = 0.25) -> None:
        super().__init__()
        self.in_modal = in_modal
        self.cross_modal = cross_modal

    def forward(
        self,
        image_embedding: Tensor,
        text_embedding: Tensor,
        labels: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        """Returns a scalar.

        Args:
            image_embedding: Image embeddings (B, D), of any length.
            text_embedding: Text embeddings (B, D), of any length.
            labels: Unused: the loss knows no identities.
            scale: Unused: the released formula multiplies by it and divides by it.
        """
        image_embedding, text_embedding = (
            F.normalize(image_embedding, dim=1),
            F.normalize(text_embedding, dim=1),
        )
        across = image_embedding @ text_embedding.t()
        in_modal = F.mse_loss(
            image_embedding @ image_embedding.t(), text_embedding @ text_embedding.t()
        )
        cross_modal = F.mse_loss(across, across.t())
        return self.in_modal * in_modal + self.cross_modal * cross_modal
