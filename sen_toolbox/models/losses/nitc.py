"""Image-text contrast with normalised and softened targets."""

import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.checks import checked_positive, checked_share
from sen_toolbox.models.losses.similarity import cosines, same_identity
from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class NITCLoss(nn.Module):
    r"""Cross-entropy of each row and column of the similarity matrix against softened targets.

    TBPS-CLIP, arXiv:2308.10045, N-ITC. The target is :math:`\alpha p + (1 - \alpha) q` with
    :math:`q` uniform over the samples of the same identity and :math:`p` the network's own
    prediction without gradient; the loss is the mean of both directions. Its gradient is
    :math:`1 - \alpha` times that of :math:`\alpha = 0`.

    Args:
        softness: :math:`\alpha`, in 0..1. The release takes 0.5, reached during the first epoch
            (``RampHook``).
        scale: Factor of the cosines, above 0, where the caller passes none. CLIP's trained value
            is 100.

    Raises:
        ValueError: If either is out of its range.
    """

    def __init__(self, *, softness: float = 0.5, scale: float = 100.0) -> None:
        super().__init__()
        self.softness = checked_share('softness', softness)
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
        hard = F.normalize(same_identity(labels).to(logits.dtype), p=1, dim=1)
        return (self._cross_entropy(logits, hard) + self._cross_entropy(logits.t(), hard)) / 2

    def _cross_entropy(self, logits: Tensor, hard: Tensor) -> Tensor:
        soft = logits.detach().softmax(dim=1)
        return F.cross_entropy(logits, self.softness * soft + (1 - self.softness) * hard)
