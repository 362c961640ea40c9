"""The attention layers that the decoder of SEN and the encoder of IRRA have in common."""

from torch import nn

from sen_toolbox.models.blocks import Transformer
from sen_toolbox.models.features import PairSpec

# Width of an attention head in CLIP.
HEAD_WIDTH = 64


def joint_width(spec: PairSpec) -> int:
    """Width that patches and words have in common.

    Raises:
        ValueError: If they differ.
    """
    if spec.image.width != spec.text.width:
        raise ValueError(
            f'attention between words and patches needs tokens of one width, got '
            f'{spec.text.width} and {spec.image.width}'
        )
    return spec.text.width


def attention_layers(width: int, depth: int) -> tuple[nn.MultiheadAttention, Transformer]:
    """One cross-attention and the blocks of CLIP that follow it.

    The weights have the standard deviations of CLIP's text transformer, as in both releases.

    Args:
        width: Width of the tokens, a multiple of 64.
        depth: Number of self-attention blocks.

    Raises:
        ValueError: If the width is not such a multiple.
    """
    if width % HEAD_WIDTH:
        raise ValueError(f'embed_dim must be a multiple of {HEAD_WIDTH}, got {width}')
    heads = width // HEAD_WIDTH
    cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
    transformer = Transformer(width, depth, heads)
    scale = width**-0.5
    output_std = scale * (2 * depth) ** -0.5
    for attention in [cross_attention, *(block.attn for block in transformer.resblocks)]:
        nn.init.normal_(attention.in_proj_weight, std=scale)
        nn.init.normal_(attention.out_proj.weight, std=output_std)
    for block in transformer.resblocks:
        nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(block.mlp.c_proj.weight, std=output_std)
    return cross_attention, transformer
