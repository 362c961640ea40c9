"""Sums of hinges over one triplet for each anchor."""

import torch
import torch.nn.functional as F
from torch import Tensor


def summed_hinges(
    scores: Tensor, margins: Tensor, columns: Tensor, counts: Tensor, others: Tensor
) -> Tensor:
    """The sum over anchors of [margin - score of the positive + score of the negative]+.

    As in the official codes that take such sums, one triplet stands for a batch in which no anchor
    counts: the last anchor with the first of ``others``. Without such a one the sum is 0.

    Args:
        scores: Scores (A, A), an anchor in each row; those of the positives are the diagonal.
        margins: Margin (A,) of each anchor.
        columns: Negative (A,) of each anchor.
        counts: Whether the anchor (A,) counts.
        others: What may be the negative (A,) of the last anchor if none counts.
    """
    positive = scores.diagonal()
    negative = scores.gather(1, columns[:, None])[:, 0]
    total = torch.where(counts, F.relu(margins - positive + negative), 0.0).sum()
    # Tensors all the way, since asking whether one counts would wait for the GPU.
    only = scores[-1].gather(0, others.byte().argmax()[None])[0]
    only = torch.where(others.any(), F.relu(margins[-1] - positive[-1] + only), 0.0)
    return torch.where(counts.any(), total, only)
