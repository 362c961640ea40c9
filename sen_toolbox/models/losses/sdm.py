"""Similarity distribution matching."""

import torch
from torch import Tensor, nn

from sen_toolbox.checks import checked_positive
from sen_toolbox.models.losses.similarity import (
    cosines,
    kl_divergence,
    same_identity,
)
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class SDMLoss(nn.Module):
    r"""KL divergence of predicted from true matching probabilities, in both directions.

    IRRA, arXiv:2303.12501, equations 5 to 7. With cosines :math:`s_{ij}`,
    :math:`p_{ij} = \mathrm{softmax}_j(s_{ij} / \tau)`, and :math:`q_{ij}` uniform over the
    samples of the same identity, the loss is
    :math:`\frac1B \sum_{ij} p_{ij} \log\frac{p_{ij}}{q_{ij} + \epsilon}`, summed over image-to-text
    and text-to-image.

    Args:
        temperature: :math:`\tau`, above 0. The release takes 0.02.
        epsilon: Added to :math:`q`. It sets the scale of the loss (log 1e-8 = -18.4), so it is
            part of the method; 1e-8 in the release.
    """

    def __init__(self, *, temperature: float = 0.02, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.temperature = checked_positive('temperature', temperature)
        self.epsilon = epsilon

    def forward(self, image_embedding: Tensor, text_embedding: Tensor, labels: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            image_embedding: Image embeddings (B, D), of any length.
            text_embedding: Text embeddings (B, D), of any length.
            labels: Identity labels (B,) of the pairs.
        """
        logits = cosines(image_embedding, text_embedding) / self.temperature
        same = same_identity(labels).to(logits.dtype)
        log_true = torch.log(same / same.sum(dim=1, keepdim=True) + self.epsilon)
        return kl_divergence(logits, log_true) + kl_divergence(logits.t(), log_true)
