"""Contrastive loss of CLIP, by pairs or aware of identities."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.checks import checked_positive
from sen_toolbox.models.losses.similarity import cosines, same_identity
from sen_toolbox.registry import LOSSES

POSITIVES = ('identity', 'pair')


@LOSSES.register_module()
class InfoNCELoss(nn.Module):
    r"""Cross-entropy of each row and column of the similarity matrix against the true matches.

    CLIP, arXiv:2103.00020, figure 3; the loss is the mean of both directions. With
    ``positives='pair'`` the target is CLIP's, and at temperature 0.02 the loss is the ITC of the
    IRRA and SEN releases.

    Args:
        temperature: Divides the cosines, above 0. CLIP's learnt value is 0.01, its initial 0.07.
        positives: 'identity' spreads the target over all samples of the same identity, since two
            pictures of one person are not negatives of each other; 'pair' leaves it on the paired
            sample. Where identities are distinct both are the same.

    Raises:
        ValueError: If the temperature is not above 0 or ``positives`` is neither.
    """

    def __init__(self, *, temperature: float, positives: str = 'identity') -> None:
        super().__init__()
        if positives not in POSITIVES:
            raise ValueError(f'positives is one of {POSITIVES}, got {positives!r}')
        self.temperature = checked_positive('temperature', temperature)
        self.positives = positives

    def forward(self, image_embedding: Tensor, text_embedding: Tensor, labels: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            image_embedding: Image embeddings (B, D), of any length.
            text_embedding: Text embeddings (B, D), of any length.
            labels: Identity labels (B,) of the pairs.
        """
        logits = cosines(image_embedding, text_embedding) / self.temperature
        if self.positives == 'pair':
            target = torch.eye(len(labels), dtype=logits.dtype, device=logits.device)
        else:
            target = F.normalize(same_identity(labels).to(logits.dtype), p=1, dim=1)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2
