"""Ranking of a pair and of the image with a second caption of its person."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.checks import checked_positive
from sen_toolbox.models.losses.hinges import summed_hinges
from sen_toolbox.models.losses.similarity import same_identity
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class CompoundRankingLoss(nn.Module):
    r"""Hinges with one random semi-hard negative for each anchor (Ding et al., arXiv:2107.12666).

    :math:`R(s, m)` adds up :math:`[m_i - s_{ii} + s_{ij}]_+` over the images as anchors and over
    the captions as anchors. :math:`j` is drawn among the semi-hard negatives of anchor
    :math:`i`, those of another person with :math:`0 < s_{ij} - s_{ii} + m_i < m_i`; an anchor
    without one counts nothing. The loss is :math:`R(s, m) + w R(s', m')`, where :math:`s` are
    the cosines of images and captions, :math:`s'` those of images and second captions. It is a
    sum, so its weight against a mean grows with the batch.

    As in the official code, a batch without a semi-hard negative has one triplet: the last
    anchor and the first negative of the last anchor that is not left out.

    Args:
        margin: The margin m, above 0.
        second_weight: The weight w.
        adaptive: Whether the margin m' of pair i is :math:`(\lambda_i + 1) m / 2` with
            :math:`\lambda_i = \min(1, |s'_{ii}| / |s_{ii}|)`, without gradient, and pairs whose
            m' is below ``least_margin`` are left out of the second term. Else m' is m / 2.
        least_margin: See there; from 0.

    Raises:
        ValueError: If the margin is not above 0.
    """

    def __init__(
        self,
        *,
        margin: float = 0.2,
        second_weight: float = 0.1,
        adaptive: bool = False,
        least_margin: float = 0.16,
    ) -> None:
        super().__init__()
        self.margin = checked_positive('margin', margin)
        self.second_weight = second_weight
        self.adaptive = adaptive
        self.least_margin = least_margin

    def forward(
        self,
        image_embedding: Tensor,
        text_embedding: Tensor,
        second_embedding: Tensor,
        labels: Tensor,
        draws: Tensor,
    ) -> Tensor:
        """Returns a scalar.

        Args:
            image_embedding: Image embeddings (B, D) of any length.
            text_embedding: Embeddings (B, D) of their captions.
            second_embedding: Embeddings (B, D) of second captions of the same persons.
            labels: Identity labels (B,) of the pairs.
            draws: Random numbers (B, 4) in 0..1, which choose among the negatives.
        """
        images = F.normalize(image_embedding, dim=1)
        scores = images @ F.normalize(text_embedding, dim=1).t()
        second = images @ F.normalize(second_embedding, dim=1).t()
        different = ~same_identity(labels)
        margins = torch.full_like(scores.diagonal(), self.margin)
        everyone = torch.ones_like(labels, dtype=torch.bool)
        first_term = _both_directions(scores, margins, everyone, different, draws[:, :2])
        margins, kept = margins / 2, everyone
        if self.adaptive:
            shares = (second.diagonal().abs() / scores.diagonal().abs()).clamp(max=1).detach()
            margins = (shares + 1) * margins
            kept = margins >= self.least_margin
        second_term = _both_directions(second, margins, kept, different, draws[:, 2:])
        return first_term + self.second_weight * second_term


def _both_directions(
    scores: Tensor, margins: Tensor, kept: Tensor, different: Tensor, draws: Tensor
) -> Tensor:
    images = _hinges(scores, margins, kept, different, draws[:, 0])
    return images + _hinges(scores.t(), margins, kept, different, draws[:, 1])


def semi_hard(scores: Tensor, margins: Tensor, kept: Tensor, different: Tensor) -> Tensor:
    """Which columns (A, B) are semi-hard negatives of each row's anchor.

    Args:
        scores: Scores (A, B); those of the positives stand on the diagonal.
        margins: Margin (A,) of each anchor.
        kept: Whether the anchor (A,) is not left out; one that is has none.
        different: Whether they show different persons, (A, B).
    """
    excess = scores - scores.diagonal()[:, None] + margins[:, None]
    return different & kept[:, None] & (excess > 0) & (excess < margins[:, None])


def drawn_columns(candidates: Tensor, draws: Tensor) -> Tensor:
    """One of the true columns (A,) of each row; 0 where there is none.

    Args:
        candidates: Booleans (A, B).
        draws: Random numbers (A,) in 0..1.
    """
    counts = candidates.sum(dim=1)
    ranks = (draws * counts).long().clamp(min=0).minimum((counts - 1).clamp(min=0))
    is_drawn = candidates & (candidates.cumsum(dim=1) == ranks[:, None] + 1)
    return is_drawn.byte().argmax(dim=1)


def _hinges(
    scores: Tensor, margins: Tensor, kept: Tensor, different: Tensor, draws: Tensor
) -> Tensor:
    """The sum of the hinges of the anchors that are kept, rows of ``scores``."""
    candidates = semi_hard(scores.detach(), margins, kept, different)
    rows = torch.arange(len(scores), device=scores.device)
    last_kept = torch.where(kept, rows, 0).amax()
    others = different.index_select(0, last_kept[None])[0] & kept.any()
    columns = drawn_columns(candidates, draws)
    return summed_hinges(scores, margins, columns, candidates.any(dim=1), others)
