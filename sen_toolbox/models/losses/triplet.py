"""Cross-modal triplet loss with the hardest negative of the batch."""

import torch
from torch import Tensor, nn

from sen_toolbox.models.losses.similarity import cosines, same_identity
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class HardestTripletLoss(nn.Module):
    r"""Hinge on the paired sample against the most similar sample of another identity.

    SEN, the cross-modal triplet: :math:`\max(0, s^- - s^+ + m)` with cosines :math:`s`, averaged
    over anchors, text-to-image plus image-to-text. An anchor without any negative in the batch
    counts as 0 (the release takes item 0, a positive, there).

    Args:
        margin: :math:`m`, in cosine units. 0.05 in the release's code.
    """

    def __init__(self, *, margin: float = 0.05) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, image_embedding: Tensor, text_embedding: Tensor, labels: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            image_embedding: Image embeddings (B, D), of any length.
            text_embedding: Text embeddings (B, D), of any length.
            labels: Identity labels (B,) of the pairs.
        """
        similarity = cosines(image_embedding, text_embedding)
        same = same_identity(labels)
        return self._hinge(similarity, same) + self._hinge(similarity.t(), same)

    def _hinge(self, similarity: Tensor, same: Tensor) -> Tensor:
        # max() sends the gradient to one negative only, also where two are equally hard; a filled
        # -inf gives a hinge of 0 and no gradient.
        hardest = similarity.masked_fill(same, -torch.inf).max(dim=1).values
        return (hardest - similarity.diagonal() + self.margin).clamp_min(0).mean()
