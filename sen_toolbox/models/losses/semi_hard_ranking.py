"""Ranking of pairs against random semi-hard negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.checks import checked_positive
from sen_toolbox.models.losses.compound_ranking import drawn_columns, semi_hard
from sen_toolbox.models.losses.hinges import summed_hinges
from sen_toolbox.models.losses.similarity import same_identity
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class SemiHardRankingLoss(nn.Module):
    """The sum of hinges of cosines with one random semi-hard negative for each anchor.

    Both sides are anchors; one without a semi-hard negative counts nothing. For the choice, and a
    batch in which no anchor counts, see ``CompoundRankingLoss``. A sum, so its weight against a
    mean grows with the batch.

    Args:
        margin: The margin, above 0.
        crossed: Whether the hinge of a caption takes the score of its image with the caption of the
            negative, in place of its own with the image of the negative. LGUR's release does so.

    Raises:
        ValueError: If the margin is not above 0.
    """

    def __init__(self, *, margin: float, crossed: bool = False) -> None:
        super().__init__()
        self.margin = checked_positive('margin', margin)
        self.crossed = crossed

    def forward(
        self, image_embedding: Tensor, text_embedding: Tensor, labels: Tensor, draws: Tensor
    ) -> Tensor:
        """Returns a scalar.

        Args:
            image_embedding: Embeddings (B, D) of one side, of any length.
            text_embedding: Embeddings (B, D) of the other.
            labels: Identity labels (B,) of the pairs.
            draws: Random numbers (B, 2) in 0..1, which choose among the negatives.
        """
        scores = F.normalize(image_embedding, dim=1) @ F.normalize(text_embedding, dim=1).t()
        different = ~same_identity(labels)
        of_text = scores.t()
        images = self._hinges(scores, scores, different, draws[:, 0])
        ranked = scores if self.crossed else of_text
        return images + self._hinges(of_text, ranked, different, draws[:, 1])

    def _hinges(self, choosing: Tensor, ranked: Tensor, different: Tensor, draws: Tensor) -> Tensor:
        """The hinges of scores ``ranked`` with negatives that are semi-hard by ``choosing``."""
        margins = torch.full_like(ranked.diagonal(), self.margin)
        kept = torch.ones_like(different[0])
        candidates = semi_hard(choosing.detach(), margins, kept, different)
        columns = drawn_columns(candidates, draws)
        return summed_hinges(ranked, margins, columns, candidates.any(dim=1), different[-1])
