"""Scores of all images with all captions by their most attended tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor


def across_grains(
    wholes: tuple[Tensor, Tensor], chosen: tuple[Tensor, Tensor], scale: float
) -> Tensor:
    """Scores (B, B) of each whole with the chosen tokens of the other modality.

    Cosines over ``scale`` are weighed by their own softmax and added; the mean of both directions.

    Args:
        wholes: First tokens (B, W) of images and captions.
        chosen: Their tokens (B, N, W) and (B, M, W).
        scale: Divides cosines.
    """
    image, text = (F.normalize(x, dim=1) for x in wholes)
    patches, words = (F.normalize(x, dim=2) for x in chosen)
    of_words = torch.einsum('id,jwd->ijw', image, words) / scale
    of_patches = torch.einsum('ipd,jd->ijp', patches, text) / scale
    return sum((x.softmax(dim=2) * x).sum(dim=2) for x in (of_words, of_patches)) / 2


def with_partners(patches: Tensor, words: Tensor, counts: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Of each patch the mean of the best words of its pair, and of each word that of patches.

    Args:
        patches: (B, N, W).
        words: (B, M, W).
        counts: Number of words for a patch, and of patches for a word, at most as there are.

    Returns:
        (B, N, W), (B, M, W).
    """
    with torch.no_grad():
        cosines = F.normalize(patches, dim=2) @ F.normalize(words, dim=2).transpose(1, 2)
        # Both are ranked by how a patch shares its attention among words.
        shares = cosines.softmax(dim=2)
    best_words = shares.topk(min(counts[0], words.shape[1]), dim=2).indices
    best_patches = shares.topk(min(counts[1], patches.shape[1]), dim=1).indices.transpose(1, 2)
    return _means(words, best_words), _means(patches, best_patches)


def _means(tokens: Tensor, places: Tensor) -> Tensor:
    """Means (B, N, W) of tokens (B, L, W) at places (B, N, K)."""
    rows = places.flatten(1)[:, :, None].expand(-1, -1, tokens.shape[2])
    return tokens.gather(1, rows).unflatten(1, places.shape[1:]).mean(dim=2)


def token_by_token(first: Tensor, second: Tensor, scale: float) -> Tensor:
    """Means (B, B) of the cosines, over ``scale``, of token n of i with token n of j.

    Args:
        first: (B, N, W).
        second: (B, N, W).
        scale: Divides cosines.
    """
    flat = (F.normalize(x, dim=2).flatten(1) for x in (first, second))
    left, right = flat
    return left @ right.t() / (scale * first.shape[1])
