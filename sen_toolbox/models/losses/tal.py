"""Triplet alignment loss: all negatives of the batch at once, pair by pair."""

import torch
from torch import Tensor, nn

from sen_toolbox.checks import checked_positive
from sen_toolbox.models.losses.similarity import cosines, same_identity
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class TripletAlignmentLoss(nn.Module):
    r"""Hinge on the positives of a sample against a smooth maximum of its negatives.

    RDE, arXiv:2308.09911, the TAL. With cosines :math:`s_{ij}`, the positives P(i) and the
    negatives N(i) by identity, and :math:`\alpha_{ij} = \mathrm{softmax}_{j \in P(i)}(s_{ij}/\tau)`
    without gradient, a sample gives
    :math:`\max(0, m - \sum_{P(i)} \alpha_{ij} s_{ij} + \tau\log\sum_{N(i)} e^{s_{ij}/\tau})`;
    a pair gives that of its caption plus that of its image. As released, the pairs are summed, not
    averaged. A sample without negatives counts as 0.

    Args:
        margin: :math:`m`, in cosine units. 0.1 in the release.
        temperature: :math:`\tau`, above 0. 0.015 in the release.
    """

    def __init__(self, *, margin: float = 0.1, temperature: float = 0.015) -> None:
        super().__init__()
        self.margin = margin
        self.temperature = checked_positive('temperature', temperature)

    def forward(
        self,
        image_embedding: Tensor,
        text_embedding: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Returns a scalar: the sum over pairs.

        Args:
            image_embedding: Image embeddings (B, D), of any length.
            text_embedding: Text embeddings (B, D), of any length.
            labels: Identity labels (B,) of the pairs.
            weights: Weight (B,) of each pair; 0 leaves it out as an anchor, while its image and
                caption stay positives and negatives of the others. None for 1.
        """
        losses = self.per_pair(image_embedding, text_embedding, labels)
        return (losses if weights is None else losses * weights).sum()

    def per_pair(self, image_embedding: Tensor, text_embedding: Tensor, labels: Tensor) -> Tensor:
        """Loss (B,) of each pair."""
        similarity = cosines(image_embedding, text_embedding)
        same = same_identity(labels)
        return self._hinge(similarity, same) + self._hinge(similarity.t(), same)

    def _hinge(self, similarity: Tensor, same: Tensor) -> Tensor:
        logits = similarity / self.temperature
        share = logits.detach().masked_fill(~same, -torch.inf).softmax(dim=1)
        # The lowest number, since a row of infinities has no gradient.
        negatives = logits.masked_fill(same, torch.finfo(logits.dtype).min).logsumexp(dim=1)
        positive = (share * similarity).sum(dim=1)
        return (self.margin - positive + self.temperature * negatives).clamp_min(0)
