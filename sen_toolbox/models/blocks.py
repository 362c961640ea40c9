"""CLIP's attention blocks, batch first, keeping for the backward pass what it needs and no more.

Their parts are named and drawn as those of open_clip, whose files fit and whose seeds repeat.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sen_toolbox.models.quick_gelu import QuickGELU, QuickGELULinear


class LayerNorm(nn.LayerNorm):
    """torch's, whose result has the type of its input also under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns a tensor of the shape and type of ``x``."""
        return super().forward(x).to(x.dtype)


class LayerScale(nn.Module):
    """A weight for each of the W channels.

    Args:
        width: W.
        start: Their first value.
    """

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), float(start)))

    def forward(self, x: Tensor) -> Tensor:
        """Returns a tensor of the shape of ``x`` (..., W)."""
        return x * self.gamma


class Block(nn.Module):
    """A residual attention block.

    Args:
        width: Width W of the tokens.
        heads: Number of heads.
        mlp_ratio: Width of the hidden layer, in W.
        layer_scale: First weight of each branch's channels; None for branches without weights.
        activation: Makes the activation of the hidden layer.
        norm: Makes a norm of W channels.

    Attributes:
        recompute: Whether training keeps the input alone and computes the block again for its
            gradient; holds for :func:`run_block`.
    """

    recompute = False

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        layer_scale: float | None = None,
        activation: Callable[[], nn.Module] = QuickGELU,
        norm: Callable[[int], nn.Module] = LayerNorm,
    ) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.ln_1 = norm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.ln_2 = norm(width)
        gelu, widen = activation(), nn.Linear(width, hidden)
        if isinstance(gelu, QuickGELU):
            gelu, narrow = nn.Identity(), QuickGELULinear(hidden, width)
        else:
            narrow = nn.Linear(hidden, width)
        self.mlp = nn.Sequential(OrderedDict(c_fc=widen, gelu=gelu, c_proj=narrow))
        self.ls_2 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)

    def forward(
        self,
        x: Tensor,
        queries: Tensor | None = None,
        *,
        attn_mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Runs the block on ``queries`` (B, Q, W), some or all of the tokens ``x`` (B, L, W).

        Args:
            x: What the queries attend to.
            queries: The tokens that anything reads; None for all.
            attn_mask: True where a query may attend, boolean, broadcast to (B, heads, Q, L).
            causal: Whether a token attends to itself and those before it only; takes all tokens.
        """
        keys = self.ln_1(x)
        normed = keys if queries is None else self.ln_1(queries)
        queries = x if queries is None else queries
        x = queries + self.ls_1(attend(self.attn, normed, keys, mask=attn_mask, causal=causal))
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class Transformer(nn.Module):
    """The blocks of a tower, which runs them itself.

    Args:
        width: Width of the tokens.
        layers: Number of blocks.
        heads: Number of heads.
        **options: Others of :class:`Block`.
    """

    def __init__(self, width: int, layers: int, heads: int, **options: Any) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, **options) for _ in range(layers))


def recompute_blocks(module: nn.Module) -> None:
    """Sets ``recompute`` of every :class:`Block` in a module.

    Raises:
        ValueError: If there is none.
    """
    for block in _blocks(module, 'checkpoint_activations'):
        block.recompute = True


def compile_blocks(module: nn.Module) -> None:
    """Compiles every :class:`Block` in a module, once for all lengths and batch sizes.

    Raises:
        ValueError: If there is none.
    """
    for block in _blocks(module, 'compile_blocks'):
        block.compile(dynamic=True)


def _blocks(module: nn.Module, option: str) -> list[Block]:
    found = [part for part in module.modules() if isinstance(part, Block)]
    if not found:
        raise ValueError(f'{option} is for attention blocks as CLIP has them; the model has none')
    return found


def run_block(block: Block, x: Tensor, **kwargs: Tensor | bool | None) -> Tensor:
    """What the block computes; where it is to be recomputed, its input alone is kept."""
    # Outside of the block, so that a compiled one is compiled as it is.
    if block.recompute and torch.is_grad_enabled():
        return checkpoint(block, x, use_reentrant=False, **kwargs)
    return block(x, **kwargs)


@torch.no_grad()
def attention_row(block: Block, x: Tensor, row: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Attention (B, L) of one token (B, 1, W) to all tokens x (B, L, W), mean over heads.

    Args:
        block: The block whose attention it is.
        x: Its input.
        row: The token, as it stands in ``x``.
        hidden: True (B, L) where the token may not look.
    """
    # Not by the module itself, which would go on to its output layer: under autocast, some
    # releases of torch (2.6) keep that layer's weights as they are cast here, without gradients,
    # and take them in the block too.
    width = block.attn.embed_dim
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    query = F.linear(block.ln_1(row), weight[:width], bias[:width])
    key = F.linear(block.ln_1(x), weight[width : 2 * width], bias[width : 2 * width])
    (query,), (key,) = (_split_heads(part, 1, block.attn.num_heads) for part in (query, key))
    scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
    if hidden is not None:
        scores = scores.masked_fill(hidden[:, None, None], -torch.inf)
    return scores.softmax(dim=3).mean(dim=1)[:, 0]


def attend(
    attention: nn.MultiheadAttention,
    queries: Tensor,
    keys: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """What the module computes for queries (B, Q, W) and keys (B, L, W), which are the values too.

    The module itself goes through tensors with the sequence first and keeps copies of them.
    """
    width = attention.embed_dim
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    if queries is keys:
        query, key, value = _split_heads(F.linear(keys, weight, bias), 3, attention.num_heads)
    else:
        query = F.linear(queries, weight[:width], bias[:width])
        (query,) = _split_heads(query, 1, attention.num_heads)
        pair = F.linear(keys, weight[width:], bias[width:])
        key, value = _split_heads(pair, 2, attention.num_heads)
    dropout = attention.dropout if attention.training else 0.0
    x = F.scaled_dot_product_attention(query, key, value, mask, dropout, is_causal=causal)
    return attention.out_proj(x.transpose(1, 2).flatten(2))


def _split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Views (B, heads, L, W / heads) of the parts of x (B, L, parts * W)."""
    return x.unflatten(2, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind()
