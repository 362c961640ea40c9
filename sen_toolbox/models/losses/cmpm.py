"""Cross-modal projection matching."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.losses.similarity import kl_divergence, same_identity
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class CMPMLoss(nn.Module):
    r"""KL divergence of predicted from true matching, by the length of projections.

    Deep Cross-Modal Projection Learning, ECCV 2018, as the IRRA and SEN releases compute it. With
    the scalar projection :math:`s_{ij}` of one embedding on the direction of the other,
    :math:`p_{ij} = \mathrm{softmax}_j(s_{ij})`, and :math:`q_{ij} = 1 / \sqrt{n_i}` for the
    :math:`n_i` samples of the same identity, 0 for others, the loss is
    :math:`\frac1B \sum_{ij} p_{ij} \log\frac{p_{ij}}{q_{ij} + \epsilon}`, summed over image-to-text
    and text-to-image. The paper has :math:`1 / n_i`; with the square root, which the releases take
    for a norm, :math:`q` is not a distribution and the loss may be negative.

    Args:
        epsilon: Added to :math:`q`; it sets the scale of the loss. 1e-8 in the releases.
    """

    def __init__(self, *, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, image_embedding: Tensor, text_embedding: Tensor, labels: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            image_embedding: Image embeddings (B, D); their length counts.
            text_embedding: Text embeddings (B, D); their length counts.
            labels: Identity labels (B,) of the pairs.
        """
        same = same_identity(labels).to(image_embedding.dtype)
        log_true = torch.log(F.normalize(same, dim=1) + self.epsilon)
        image_on_text = image_embedding @ F.normalize(text_embedding, dim=1).t()
        text_on_image = text_embedding @ F.normalize(image_embedding, dim=1).t()
        return kl_divergence(image_on_text, log_true) + kl_divergence(text_on_image, log_true)
