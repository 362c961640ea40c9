"""The decoder of SEN that paints hidden patches from the words of the caption."""

import torch
from open_clip.transformer import QuickGELU, Transformer
from torch import Tensor, nn

from sen_toolbox.models.features import BackboneSpec
from sen_toolbox.registry import NECKS

# Width of an attention head in CLIP.
HEAD_WIDTH = 64


@NECKS.register_module()
class TextGuidedDecoder(nn.Module):
    """One cross-attention from patches to words, then self-attention blocks, then pixels.

    SEN, text-guided image restoration. As released: what the cross-attention returns replaces its
    input (there is no residual connection, so the visible patches act through the queries alone),
    the keys are all text tokens with their padding, and the class token takes part and is dropped
    at the end.

    Args:
        depth: Number of self-attention blocks.
        spec: Sizes of the backbone; the embedding width must be a multiple of 64.
    """

    def __init__(self, *, depth: int, spec: BackboneSpec) -> None:
        super().__init__()
        width = spec.embed_dim
        if width % HEAD_WIDTH:
            raise ValueError(f'embed_dim must be a multiple of {HEAD_WIDTH}, got {width}')
        heads = width // HEAD_WIDTH
        self.image_norm = nn.LayerNorm(width)
        self.text_norm = nn.LayerNorm(width)
        self.embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        position = sincos_position(width, spec.grid_size)
        self.register_buffer('position', position[None], persistent=False)
        self.query_norm = nn.LayerNorm(width)
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_norm = nn.LayerNorm(width)
        self.transformer = Transformer(width, depth, heads, act_layer=QuickGELU)
        self.output_norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, spec.patch_size**2 * 3)
        self._init_attention(width, depth)

    def _init_attention(self, width: int, depth: int) -> None:
        # Standard deviations of CLIP's text transformer, as the release applies them.
        scale = width**-0.5
        output_std = scale * (2 * depth) ** -0.5
        for attention in [self.cross_attention, *(b.attn for b in self.transformer.resblocks)]:
            nn.init.normal_(attention.in_proj_weight, std=scale)
            nn.init.normal_(attention.out_proj.weight, std=output_std)
        for block in self.transformer.resblocks:
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=output_std)

    def forward(self, image_tokens: Tensor, text_tokens: Tensor, rank: Tensor) -> Tensor:
        """Predicts the pixels of all patches.

        Args:
            image_tokens: Class token and the K visible patches (B, 1 + K, D), in rank order.
            text_tokens: Text tokens (B, L, D).
            rank: Rank (B, N) of each patch; those below K are visible.

        Returns:
            Pixels (B, N, 3 * patch_size ** 2).
        """
        x = self.embed(self.image_norm(image_tokens))
        hidden = self.mask_token.expand(len(x), rank.shape[1] + 1 - x.shape[1], -1)
        patches = torch.cat([x[:, 1:], hidden.to(x.dtype)], dim=1)
        patches = patches.gather(1, rank[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([x[:, :1], patches], dim=1) + self.position
        text = self.text_norm(text_tokens)
        x = self.cross_attention(self.query_norm(x), text, text, need_weights=False)[0]
        x = self.transformer(self.cross_norm(x))
        return self.predict(self.output_norm(x))[:, 1:]


def sincos_position(width: int, grid_size: tuple[int, int]) -> Tensor:
    """Fixed 2-D sine-cosine position embedding (1 + rows * columns, width), class token 0.

    MAE, arXiv:2111.06377: the first half of the width encodes the column, the second the row, each
    as sines followed by cosines of frequencies 10000 ** -(i / (width / 4)).

    Raises:
        ValueError: If the width is no multiple of 4.
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
