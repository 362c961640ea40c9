"""Alignment of all pairs of a batch on either side of a margin."""

import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.losses.similarity import cosines, same_identity
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class AlignLoss(nn.Module):
    r"""Soft hinges that push cosines of one identity up and those of two down.

    With cosines :math:`s_{ij}` of B captions and images,
    :math:`\frac2B \left(\sum_{same} \log(1 + e^{-a (s - \alpha)}) + \sum_{other}
    \log(1 + e^{b (s - \beta)})\right)`.

    Args:
        same_bound: :math:`\alpha`.
        other_bound: :math:`\beta`.
        same_scale: :math:`a`.
        other_scale: :math:`b`.
    """

    def __init__(
        self,
        *,
        same_bound: float = 0.6,
        other_bound: float = 0.4,
        same_scale: float = 10.0,
        other_scale: float = 40.0,
    ) -> None:
        super().__init__()
        self.same_bound, self.other_bound = same_bound, other_bound
        self.same_scale, self.other_scale = same_scale, other_scale

    def forward(self, image_embedding: Tensor, text_embedding: Tensor, labels: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            image_embedding: Image embeddings (B, D), of any length.
            text_embedding: Text embeddings (B, D), of any length.
            labels: Identity labels (B,) of the pairs.
        """
        similarity, same = cosines(image_embedding, text_embedding), same_identity(labels)
        up = F.softplus(-self.same_scale * (similarity - self.same_bound))
        down = F.softplus(self.other_scale * (similarity - self.other_bound))
        return 2 * up.where(same, down).sum() / len(labels)
