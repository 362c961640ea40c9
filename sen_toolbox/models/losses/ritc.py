"""Image-text contrast by the reversed divergence."""

import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.checks import checked_positive
from sen_toolbox.models.losses.similarity import cosines, kl_divergence, same_identity
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class RITCLoss(nn.Module):
    r"""KL divergence of the predicted from the true matches, mean of both directions.

    TBPS-CLIP, arXiv:2308.10045, R-ITC: :math:`\mathrm{KL}(p \| q + \epsilon)` with :math:`q`
    uniform over the samples of the same identity, not normalised again. It is half of ``SDMLoss``
    of the same epsilon, with a scale that may be learnt.

    Args:
        epsilon: Added to :math:`q`, above 0. The release takes 0.01.
        scale: Factor of the cosines, above 0, where the caller passes none. CLIP's trained value
            is 100.

    Raises:
        ValueError: If either is not above 0.
    """

    def __init__(self, *, epsilon: float = 1e-2, scale: float = 100.0) -> None:
        super().__init__()
        self.epsilon = checked_positive('epsilon', epsilon)
        self.scale = checked_positive('scale', scale)

    def forward(
        self,
        image_embedding: Tensor,
        text_embedding: Tensor,
        labels: Tensor,
        scale: Tensor | None = None,
    ) -> Tensor:
        """Returns a scalar.

        Args:
            image_embedding: Image embeddings (B, D), of any length.
            text_embedding: Text embeddings (B, D), of any length.
            labels: Identity labels (B,) of the pairs.
            scale: Learnt factor of the cosines, a scalar.
        """
        scale = self.scale if scale is None else scale
        logits = cosines(image_embedding, text_embedding) * scale
        true = F.normalize(same_identity(labels).to(logits.dtype), p=1, dim=1)
        log_true = (true + self.epsilon).log()
        return (kl_divergence(logits, log_true) + kl_divergence(logits.t(), log_true)) / 2
