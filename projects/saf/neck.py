"""Parts that a class token finds by attention, in one space of images and captions."""

import torch
from torch import Tensor, nn

from sen_toolbox.models.batch_norm import GlobalBatchNorm
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.few_queries import mixed_values, token_weights
from sen_toolbox.registry import NECKS


@NECKS.register_module()
class ClassTokenParts(nn.Module):
    """K attentions of the class token, as wide as the tokens each, shared by both modalities.

    Channel c of part p is number ``c K + p`` of what the attentions give side by side, so that each
    part takes every K-th channel of all of them. One batch norm, without a bias, normalises
    everything; each part of each modality is a batch of its own.

    Args:
        spec: Sizes of the backbone, whose tokens have one width.
        parts: Number K of parts.

    Raises:
        ValueError: If they differ.
    """

    def __init__(self, *, spec: PairSpec, parts: int) -> None:
        super().__init__()
        width = spec.image.width
        if spec.text.width != width:
            raise ValueError(
                f'tokens of images have {width} numbers, those of captions {spec.text.width}: the '
                'attention is for both, so take encoders of one width'
            )
        self.parts, self.width, self.scale = parts, width, width**-0.5
        self.reads = frozenset({'image.tokens', 'text.tokens'})
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * parts * width, bias=False)
        self.batch_norm = GlobalBatchNorm(width)
        self.batch_norm.bias.requires_grad_(False)

    def forward(self, pair: PairFeatures) -> tuple[Tensor | None, Tensor | None]:
        """Class token and parts, normalised, (B, 1 + K, W) of images and (T, 1 + K, W) of captions.

        Either is None where the pair has none.
        """
        raw = []
        if pair.image is not None:
            raw.append(self.raw_parts(pair.image.tokens))
        if pair.text is not None:
            raw.append(self.raw_parts(pair.text.tokens, pair.text.mask))
        # In this order the statistics see them: image, caption, then the next part of both.
        places = [[self.batch_norm(x[:, k]) for x in raw] for k in range(1 + self.parts)]
        found = iter([torch.stack(columns, dim=1) for columns in zip(*places, strict=True)])
        return (
            None if pair.image is None else next(found),
            None if pair.text is None else next(found),
        )

    def raw_parts(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Class token and parts (B, 1 + K, W) of tokens (B, L, W), before the batch norm.

        Args:
            tokens: The tokens, the class token first.
            mask: True (B, L) on tokens that it may look at; None for all.
        """
        x = self.norm(tokens)
        values = mixed_values(self.attention(x, mask)[:, :, None], x, self._weights()[2])
        parts = values.flatten(1).unflatten(1, (self.width, self.parts)).transpose(1, 2)
        return torch.cat([tokens[:, :1], parts.to(tokens.dtype)], dim=1)

    def attention(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Weights (B, K, L) with which the class token looks at normed tokens x (B, L, W)."""
        of_queries, of_keys, _ = self._weights()
        queries = torch.einsum('bw,hdw->bhd', self.scale * x[:, 0], of_queries)[:, :, None]
        return token_weights(queries, x, of_keys, mask)[:, :, 0]

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Those (K, W, W) of queries, keys and values."""
        return self.qkv.weight.unflatten(0, (3, self.parts, self.width)).unbind()
