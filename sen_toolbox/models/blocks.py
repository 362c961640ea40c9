"""CLIP's attention blocks, batch first, keeping for the backward pass what it needs and no more."""

import torch
import torch.nn.functional as F
from open_clip import transformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# OpenAI's approximation of GELU, x * sigmoid(1.702 x).
SLOPE = 1.702


def _quick_gelu(x: Tensor) -> Tensor:
    # In place: these are the widest tensors of a block.
    return (SLOPE * x).sigmoid_().mul_(x)


class _QuickGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _quick_gelu(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # The derivative of x * sigmoid(s * x) at x is that of x * sigmoid(x) at s * x.
        return torch.ops.aten.silu_backward(gradient, SLOPE * x)


class QuickGELU(nn.Module):
    """The activation of OpenAI's CLIP; of its three steps only the input is kept for backward."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns a tensor of the shape of ``x``."""
        return _QuickGELU.apply(x)


class _QuickGELULinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(_quick_gelu(x), weight, bias)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_weight = rows.t() @ _quick_gelu(x).flatten(0, -2)
        of_x = torch.ops.aten.silu_backward(gradient @ weight, SLOPE * x)
        return of_x, of_weight, rows.sum(dim=0)


class QuickGELULinear(nn.Linear):
    """A linear layer of :class:`QuickGELU` of its input, computed again for the backward pass.

    That halves what the widest layers of a block keep, at under 1 % of its time.

    Args:
        linear: The layer whose weights it takes over.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, device='meta')
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Returns (..., out_features) of x (..., in_features)."""
        # Under autocast x has fewer bits than the weights.
        return _QuickGELULinear.apply(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Block(nn.Module):
    """A residual attention block with the parts, and so the parameter names, of open_clip's.

    Args:
        block: The block whose parts it takes over.

    Attributes:
        recompute: Whether training keeps the input alone and computes the block again for its
            gradient; holds for :func:`run_block`.
    """

    recompute = False

    def __init__(self, block: transformer.ResidualAttentionBlock) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = block.ln_1, block.attn, block.ls_1
        self.ln_2, self.mlp, self.ls_2 = block.ln_2, block.mlp, block.ls_2
        if isinstance(self.mlp.gelu, transformer.QuickGELU):
            self.mlp.gelu = nn.Identity()
            self.mlp.c_proj = QuickGELULinear(self.mlp.c_proj)

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


def replace_blocks(tower: transformer.Transformer) -> None:
    """Puts a :class:`Block` in the place of each block of one of open_clip's transformers."""
    tower.resblocks = nn.ModuleList(Block(block) for block in tower.resblocks)


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
