"""Queries that look at other tokens, layer by layer, and not at each other."""

import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.few_queries import mixed_values, token_weights


class CrossAttention(nn.Module):
    """Attention whose queries, keys and values have no biases.

    Args:
        width: Width W of queries and tokens.
        heads: Number H of heads.
        head_width: Width d of a head; together they may be wider than the tokens.
        few_queries: Whether there are fewer queries than d, so that layers for them are cheaper
            than keys and values of all tokens. The results are the same.
    """

    def __init__(self, width: int, heads: int, head_width: int, *, few_queries: bool) -> None:
        super().__init__()
        self.heads, self.scale, self.few_queries = heads, head_width**-0.5, few_queries
        inner = heads * head_width
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Returns (B, Q, W); queries, or tokens, of a batch of 1 are those of all."""
        query = self._split(self.to_q(queries), 1)[0]
        if self.few_queries:
            of_both = self.to_kv.weight.unflatten(0, (2, self.heads, -1))
            weights = token_weights(self.scale * query, tokens, of_both[0], mask)
            x = mixed_values(weights, tokens, of_both[1])
        else:
            key, value = self._split(self.to_kv(tokens), 2)
            seen = None if mask is None else mask[:, None, None]
            # One of the two sides may be the same for the whole batch.
            query, key = _as_many(query, key), _as_many(key, query)
            value = _as_many(value, query)
            x = F.scaled_dot_product_attention(query, key, value, seen)
        return self.to_out(x.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Views (B, H, L, d) of the parts of x (B, L, parts * H * d)."""
        return x.unflatten(2, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def _as_many(x: Tensor, other: Tensor) -> Tensor:
    """A batch of 1 as often as the other has rows; any other batch as it is."""
    return x.expand(other.shape[0], -1, -1, -1) if x.shape[0] == 1 else x


class CrossLayer(nn.Module):
    """An attention and an MLP, each behind a norm and beside a residual connection.

    One norm serves queries and tokens. For the arguments see :class:`CrossDecoder`.
    """

    def __init__(
        self, width: int, heads: int, head_width: int, mlp_width: int, *, few_queries: bool
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, heads, head_width, few_queries=few_queries)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_width), nn.ReLU(), nn.Linear(mlp_width, width)
        )

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Returns (B, Q, W)."""
        x = queries + self.attention(self.norm(queries), self.norm(tokens), mask)
        return x + self.mlp(self.mlp_norm(x))


class CrossDecoder(nn.Module):
    """Layers in which queries look at the same tokens again and again.

    There is no attention among queries, no code of places and no norm at the end.

    Args:
        width: Width W of queries and tokens.
        depth: Number of layers.
        heads: Number of heads.
        head_width: Width of a head; together they may be wider than the tokens.
        mlp_width: Width between the layers of an MLP.
        few_queries: Whether there are fewer queries than ``head_width``; it is faster then.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        heads: int,
        head_width: int,
        mlp_width: int,
        few_queries: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            CrossLayer(width, heads, head_width, mlp_width, few_queries=few_queries)
            for _ in range(depth)
        )

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """What becomes of the queries, (B, Q, W).

        Args:
            queries: (B, Q, W), or (1, Q, W) for all.
            tokens: (B, L, W), or (1, L, W) for all.
            mask: True (B, L) on tokens that may be looked at; None for all.
        """
        for layer in self.layers:
            queries = layer(queries, tokens, mask)
        return queries
