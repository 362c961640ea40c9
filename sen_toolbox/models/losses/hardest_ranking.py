"""Ranking against the hardest negatives where they win."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.checks import checked_positive
from sen_toolbox.models.losses.hinges import summed_hinges
from sen_toolbox.models.losses.similarity import same_identity
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class HardestRankingLoss(nn.Module):
    """The sum of hinges of the anchors whose hardest negative beats their positive.

    Scores are cosines; both sides are anchors. A sum, so its weight against a mean grows with the
    batch. For a batch in which no anchor counts see ``summed_hinges``.

    Args:
        margin: The margin, above 0.

    Raises:
        ValueError: If the margin is not above 0.
    """

    def __init__(self, *, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = checked_positive('margin', margin)

    def forward(self, image_embedding: Tensor, text_embedding: Tensor, labels: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            image_embedding: Embeddings (B, D) of one side, of any length.
            text_embedding: Embeddings (B, D) of the other.
            labels: Identity labels (B,) of the pairs.
        """
        scores = F.normalize(image_embedding, dim=1) @ F.normalize(text_embedding, dim=1).t()
        return self.of_scores(scores, labels)

    def of_scores(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The same of any scores (B, B), whose diagonal is that of the pairs."""
        different = ~same_identity(labels)
        return self._one_direction(scores, different) + self._one_direction(scores.t(), different)

    def _one_direction(self, scores: Tensor, different: Tensor) -> Tensor:
        hardest = scores.detach().masked_fill(~different, -torch.inf).max(dim=1)
        counts = hardest.values > scores.diagonal()
        margins = torch.full_like(scores.diagonal(), self.margin)
        return summed_hinges(scores, margins, hardest.indices, counts, different[-1])
