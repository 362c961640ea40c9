"""The re-ranking of the release as it is, which compares captions with images by their numbers.

``visual_neighbours`` of the toolbox is what it evidently means. This one is here to give the
release's own figures again.
"""

import torch
from torch import Tensor


def released_bonus(similarity: Tensor, gallery_similarity: Tensor, k: int = 5) -> Tensor:
    """What the release adds to the scores (G, T) of images and captions.

    Image i and *image* j have the share of common numbers of the k best *captions* of i and the k
    nearest images of j; it is added to caption j. Captions beyond the number of images get nothing.

    Args:
        similarity: Scores (G, T) of images and captions.
        gallery_similarity: Scores (G, G) of images and images.
        k: Neighbours that are looked at.
    """
    captions = similarity.topk(k, dim=1).indices
    images = gallery_similarity.topk(k, dim=1).indices
    common = (captions[:, None, :, None] == images[None, :, None, :]).sum(dim=(2, 3))
    bonus = torch.zeros_like(similarity)
    bonus[:, : len(images)] = (common / (2 * k - common))[:, : bonus.shape[1]]
    return bonus
