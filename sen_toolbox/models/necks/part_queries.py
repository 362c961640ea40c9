"""Parts that learnt queries find among tokens of either modality."""

import torch
from torch import Tensor, nn

from sen_toolbox.models.necks.cross_decoder import CrossDecoder
from sen_toolbox.models.parts import PartLinear


class PartQueries(nn.Module):
    """Queries that images and captions share, a decoder, and a layer of its own for each part.

    The prototypes of LGUR, arXiv:2207.07802.

    Args:
        width: Width of the tokens.
        parts: Number K of queries.
        part_width: Width F of a part.
        decoder: Further arguments of :class:`CrossDecoder`.
    """

    def __init__(self, *, width: int, parts: int, part_width: int, decoder: dict) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, parts, width))
        few = parts < decoder['head_width']
        self.decoder = CrossDecoder(width=width, few_queries=few, **decoder)
        self.project = PartLinear(parts, width, part_width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Parts (B, K, F) of tokens (B, L, W).

        Args:
            tokens: The tokens.
            mask: True (B, L) on tokens that may be looked at; None for all.
        """
        return self.project(self.decoder(self.queries, tokens, mask))
