"""A block in which a first token looks at chosen tokens and then at all."""

from collections import OrderedDict

from torch import Tensor, nn

from sen_toolbox.models.blocks import QuickGELU, attend


class FirstTokenBlock(nn.Module):
    """Attention to a group of tokens, attention to all, an MLP; each beside a residual connection.

    In the release all tokens of the group go through it, and the first one is taken.

    Args:
        width: Width W of a token.
        heads: Number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_0, self.ln_1, self.ln_2 = (nn.LayerNorm(width) for _ in range(3))
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, 4 * width),
                gelu=QuickGELU(),
                c_proj=nn.Linear(4 * width, width),
            )
        )

    def forward(self, group: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """What becomes of the first token, (B, W).

        Args:
            group: The first token and those that were chosen, (B, 1 + K, W).
            tokens: All (B, L, W).
            mask: True (B, L) on those that may be looked at; None for all.
        """
        normed = self.ln_0(group)
        x = group[:, :1] + attend(self.self_attn, normed[:, :1], normed)
        seen = None if mask is None else mask[:, None, None]
        x = x + attend(self.attn, self.ln_1(x), tokens, mask=seen)
        return (x + self.mlp(self.ln_2(x)))[:, 0]
