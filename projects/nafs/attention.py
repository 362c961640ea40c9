"""How well words and regions agree, each region with the words that it looks at."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# The slope of the leaky ReLU, and what divides by a length at the least.
SLOPE, LEAST = 0.1, 1e-8


class Regions(NamedTuple):
    """Queries and values (..., R, D) of the regions of images."""

    queries: Tensor
    values: Tensor


class Words(NamedTuple):
    """Keys and values (T, L, D) of the words of captions, and which are read, (T, L)."""

    keys: Tensor
    values: Tensor
    mask: Tensor


def local_similarity(words: Words, regions: Regions, sharpness: float) -> Tensor:
    """The mean over regions of the cosine of a region and the words that it attends to, (T, k).

    Weights are a softmax over the words of cosines, which a leaky ReLU and a division by their
    length over all regions precede.

    Args:
        words: Of T captions.
        regions: Of k images for each caption, (T, k, R, D), or (1, k, R, D), the same for all.
        sharpness: Factor before the softmax.
    """
    keys, queries = (F.normalize(x, dim=-1, eps=LEAST) for x in (words.keys, regions.queries))
    cosines = torch.einsum('tld,tkrd->tklr', keys, queries.expand(len(keys), -1, -1, -1))
    cosines = F.normalize(F.leaky_relu(cosines, SLOPE), dim=3, eps=LEAST)
    unread = ~words.mask[:, None, :, None]
    weights = (sharpness * cosines).masked_fill(unread, -torch.inf).softmax(dim=2)
    context = torch.einsum('tklr,tld->tkrd', weights, words.values)
    return F.cosine_similarity(regions.values, context, dim=3, eps=LEAST).mean(dim=2)
