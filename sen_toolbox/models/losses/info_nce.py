"""Contrastive loss of CLIP, aware of identities."""

import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.registry import LOSSES


@LOSSES.register_module()
class InfoNCELoss(nn.Module):
    r"""Cross-entropy of each row and column of the similarity matrix against the true matches.

    CLIP, arXiv:2103.00020, figure 3. The target is uniform over all samples of the same identity
    (CLIP's one-hot target where identities are distinct), since two pictures of one person are no
    negatives of each other; the loss is the mean of both directions.

    Args:
        temperature: Divides the cosines, above 0. CLIP's learnt value is 0.01, its initial 0.07.
    """

    def __init__(self, *, temperature: float) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f'temperature must be above 0, got {temperature}')
        self.temperature = temperature

    def forward(self, image: Tensor, text: Tensor, pids: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            image: Image embeddings (B, D), of any length.
            text: Text embeddings (B, D), of any length.
            pids: Identities (B,) of the pairs.
        """
        logits = F.normalize(text, dim=1) @ F.normalize(image, dim=1).t() / self.temperature
        same = (pids[:, None] == pids[None, :]).to(logits.dtype)
        target = same / same.sum(dim=1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2
