"""Attention of a few queries to many tokens, without the keys and values of the tokens.

Layers are applied by ``einsum``: a broadcast ``@`` would copy their weights for each of a batch.
"""

import torch
from torch import Tensor


def token_weights(
    queries: Tensor, tokens: Tensor, of_keys: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Weights (B, H, Q, L) with which queries look at tokens.

    A query's score with a key is that of the query behind the keys' layer with the token, so that
    layer runs on queries alone.

    Args:
        queries: (B, H, Q, d), scaled; B may be 1 for all.
        tokens: (B, L, W).
        of_keys: Weight (H, d, W) of the keys' layer, which has no bias.
        mask: True (B, L) on tokens that may be looked at; None for all.
    """
    looked = torch.einsum('bhqd,hdw->bhqw', queries, of_keys)
    scores = looked.flatten(1, 2) @ tokens.transpose(1, 2)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], -torch.inf)
    return scores.softmax(dim=2).unflatten(1, queries.shape[1:3])


def mixed_values(weights: Tensor, tokens: Tensor, of_values: Tensor) -> Tensor:
    """What the queries find, (B, H, Q, d): the values of mixtures are mixtures of the values.

    Args:
        weights: (B, H, Q, L).
        tokens: (B, L, W).
        of_values: Weight (H, d, W) of the values' layer, which has no bias.
    """
    mixed = (weights.flatten(1, 2) @ tokens).unflatten(1, weights.shape[1:3])
    return torch.einsum('bhqw,hdw->bhqd', mixed, of_values)
