"""Cross-modal projection matching (CMPM), Zhang and Lu, ECCV 2018."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.losses.similarity import kl_divergence, same_identity
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class ProjectionMatchingLoss(nn.Module):
    r"""KL divergence of projection probabilities from the true matching distribution.

    An image :math:`x_i` is projected onto the unit texts :math:`\bar z_j`:
    :math:`p_{ij} = \mathrm{softmax}_j(x_i^\top \bar z_j)`; :math:`q_{ij}` is uniform over the
    samples of the same identity. The loss is
    :math:`\frac1B \sum_{ij} p_{ij} \log\frac{p_{ij}}{q_{ij} + \epsilon}`, plus the same with image
    and text exchanged. The length of an embedding counts: it is the inverse temperature. This is
    the paper's loss; ``CMPMLoss`` is that of later releases, whose :math:`q` is divided by a square
    root.

    Args:
        epsilon: Added to :math:`q`; 1e-8 in the release.
    """

    def __init__(self, *, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, image_embedding: Tensor, text_embedding: Tensor, labels: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            image_embedding: Image embeddings (B, D), not normalised.
            text_embedding: Text embeddings (B, D), not normalised.
            labels: Identity labels (B,) of the pairs.
        """
        same = same_identity(labels).to(image_embedding.dtype)
        log_true = torch.log(same / same.sum(dim=1, keepdim=True) + self.epsilon)
        image_on_text = image_embedding @ F.normalize(text_embedding, dim=1).t()
        text_on_image = text_embedding @ F.normalize(image_embedding, dim=1).t()
        return kl_divergence(image_on_text, log_true) + kl_divergence(text_on_image, log_true)
