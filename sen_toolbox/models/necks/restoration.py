"""The decoder of SEN that paints hidden patches from the words of the caption."""

import torch
from torch import Tensor, nn

from sen_toolbox.models.blocks import attend, run_block
from sen_toolbox.models.features import PairSpec
from sen_toolbox.models.necks.attention import attention_layers, joint_width
from sen_toolbox.registry import NECKS

GUIDES = ('text', 'image')


@NECKS.register_module()
class TextGuidedDecoder(nn.Module):
    """One cross-attention from patches to words, then self-attention blocks, then values.

    SEN, text-guided image restoration. As released: what the cross-attention returns replaces its
    input (there is no residual connection, so the visible patches act through the queries alone),
    the keys are all text tokens with their padding, and the class token takes part and is dropped
    at the end.

    Args:
        depth: Number of self-attention blocks.
        guide: What the patches attend to: 'text', or 'image' for the visible tokens in its place,
            so that the caption has no part in the restoration (an ablation; the forward pass that
            VFE-TPS released restores from the image alone too).
        num_values: How many values of each patch are predicted, such as pixels with their three
            colours; None for all of those.
        spec: Sizes of the backbone; the embedding width must be a multiple of 64.

    Raises:
        ValueError: If ``guide`` is neither, or the width does not fit.
    """

    def __init__(
        self,
        *,
        depth: int,
        guide: str = 'text',
        num_values: int | None = None,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        if guide not in GUIDES:
            raise ValueError(f'guide is one of {GUIDES}, got {guide!r}')
        self.reads_words = guide == 'text'
        width = joint_width(spec)
        self.image_norm = nn.LayerNorm(width)
        self.text_norm = nn.LayerNorm(width)
        self.embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        grid, side = spec.image.patches()
        position = sincos_position(width, grid)
        self.register_buffer('position', position[None], persistent=False)
        self.query_norm = nn.LayerNorm(width)
        self.cross_attention, self.transformer = attention_layers(width, depth)
        self.cross_norm = nn.LayerNorm(width)
        self.output_norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, num_values or side**2 * 3)

    def forward(
        self,
        image_tokens: Tensor,
        text_tokens: Tensor,
        rank: Tensor,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Predicts the values of patches.

        Args:
            image_tokens: Class token and the K visible patches (B, 1 + K, D), in rank order.
            text_tokens: Text tokens (B, L, D); not read with ``guide='image'``.
            rank: Rank (B, N) of each patch; those below K are visible.
            wanted: Indices (B, S) of the patches to predict, in this order; None for all N.

        Returns:
            Values (B, S, V).
        """
        queries, keys = self._queries_and_keys(image_tokens, text_tokens, rank)
        x = self.cross_norm(attend(self.cross_attention, queries, keys))
        *blocks, last = self.transformer.resblocks
        for block in blocks:
            x = run_block(block, x)
        patches = x[:, 1:]
        if wanted is not None:
            patches = patches.gather(1, wanted[..., None].expand(-1, -1, x.shape[-1]))
        return self.predict(self.output_norm(run_block(last, x, queries=patches)))

    def attention(self, image_tokens: Tensor, text_tokens: Tensor, rank: Tensor) -> Tensor:
        """Weights (B, 1 + N, L) of the cross-attention, mean over its heads."""
        queries, keys = self._queries_and_keys(image_tokens, text_tokens, rank)
        return self.cross_attention(queries, keys, keys)[1]

    def _queries_and_keys(
        self, image_tokens: Tensor, text_tokens: Tensor, rank: Tensor
    ) -> tuple[Tensor, Tensor]:
        x = self.embed(self.image_norm(image_tokens))
        hidden = self.mask_token.expand(len(x), rank.shape[1] + 1 - x.shape[1], -1)
        patches = torch.cat([x[:, 1:], hidden.to(x.dtype)], dim=1)
        patches = patches.gather(1, rank[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([x[:, :1], patches], dim=1) + self.position
        keys = self.text_norm(text_tokens if self.reads_words else image_tokens)
        return self.query_norm(x), keys


def sincos_position(width: int, grid_size: tuple[int, int]) -> Tensor:
    """Fixed 2-D sine-cosine position embedding (1 + rows * columns, width), class token 0.

    MAE, arXiv:2111.06377: the first half of the width encodes the column, the second the row, each
    as sines followed by cosines of frequencies 10000 ** -(i / (width / 4)).

    Raises:
        ValueError: If the width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f'width must be a multiple of 4, got {width}')
    rows, columns = grid_size
    row, column = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64),
        torch.arange(columns, dtype=torch.float64),
        indexing='ij',
    )
    frequency = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = [axis.flatten()[:, None] * frequency for axis in (column, row)]
    grid = torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)
    return torch.cat([grid.new_zeros(1, width), grid]).float()
