"""What the losses that compare the pairs of a batch share."""

import torch.nn.functional as F
from torch import Tensor


def cosines(image_embedding: Tensor, text_embedding: Tensor) -> Tensor:
    """Cosines (B, B) of each text, a row, with each image; embeddings (B, D) of any length."""
    return F.normalize(text_embedding, dim=1) @ F.normalize(image_embedding, dim=1).t()


def same_identity(labels: Tensor) -> Tensor:
    """Whether two pairs show one person, boolean (B, B)."""
    return labels[:, None] == labels[None, :]


def kl_divergence(logits: Tensor, log_true: Tensor) -> Tensor:
    """Mean over rows of KL(softmax(logits) || true), a scalar.

    Rows of ``true`` need not sum to 1.
    """
    log_predicted = F.log_softmax(logits, dim=1)
    return (log_predicted.exp() * (log_predicted - log_true)).sum(dim=1).mean()
