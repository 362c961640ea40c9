"""Pairwise sigmoid loss of SigLIP, aware of identities."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.losses.similarity import cosines, same_identity
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class PairSigmoidLoss(nn.Module):
    """Asks of every image and caption on its own whether they show one person.

    SigLIP, arXiv:2303.15343, algorithm 1: temperature and bias are learnt and start at 10 and -10.
    Pairs of one identity are positives, where SigLIP has the diagonal alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def forward(self, image: Tensor, text: Tensor, labels: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            image: Image embeddings (B, D), of any length.
            text: Text embeddings (B, D), of any length.
            labels: Identities (B,) of the pairs.
        """
        logits = self.log_scale.exp() * cosines(image, text) + self.bias
        sign = 2.0 * same_identity(labels) - 1
        return -F.logsigmoid(sign * logits).sum() / len(image)
