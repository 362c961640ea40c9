"""The encoder of IRRA in which words look at the image."""

from torch import Tensor, nn

from sen_toolbox.models.blocks import attend, run_block
from sen_toolbox.models.features import PairSpec
from sen_toolbox.models.necks.attention import attention_layers, joint_width
from sen_toolbox.registry import NECKS


@NECKS.register_module()
class CrossModalEncoder(nn.Module):
    """One cross-attention from words to image tokens, then self-attention blocks over the words.

    IRRA, arXiv:2303.12501, implicit relation reasoning. As released: what the cross-attention
    returns replaces its input (there is no residual connection), and the blocks see the padding.

    Args:
        depth: Number of self-attention blocks.
        spec: Sizes of the backbone; the embedding width must be a multiple of 64.

    Raises:
        ValueError: If the width does not fit.
    """

    def __init__(self, *, depth: int, spec: PairSpec) -> None:
        super().__init__()
        width = joint_width(spec)
        self.depth = depth
        self.text_norm = nn.LayerNorm(width)
        self.image_norm = nn.LayerNorm(width)
        self.cross_attention, self.transformer = attention_layers(width, depth)
        self.output_norm = nn.LayerNorm(width)

    def forward(self, text_tokens: Tensor, image_tokens: Tensor) -> Tensor:
        """Words (B, L, D) that have seen the image.

        Args:
            text_tokens: Text tokens (B, L, D).
            image_tokens: Class token and patches (B, 1 + N, D).
        """
        keys = self.image_norm(image_tokens)
        x = attend(self.cross_attention, self.text_norm(text_tokens), keys)
        for block in self.transformer.resblocks:
            x = run_block(block, x)
        return self.output_norm(x)

    def attention(self, text_tokens: Tensor, image_tokens: Tensor) -> Tensor:
        """Weights (B, L, 1 + N) of the cross-attention, mean over its heads."""
        keys = self.image_norm(image_tokens)
        return self.cross_attention(self.text_norm(text_tokens), keys, keys)[1]
