"""Vision transformers of timm: ViT and DeiT, pretrained on ImageNet."""

import math
from difflib import get_close_matches

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from sen_toolbox.checkpoint.values import named_faults
from sen_toolbox.models.features import ImageFeatures, ImageSpec
from sen_toolbox.models.image_encoders.google_weights import read_google_weights
from sen_toolbox.models.image_encoders.patches import embed_patches, patch_grid
from sen_toolbox.models.pretrained import find_weights, load_weights, read_weights
from sen_toolbox.models.requests import check_image_request
from sen_toolbox.registry import IMAGE_ENCODERS

WANTED = (
    "timm's, DeiT's or Google's weights of this ViT (such as deit_small_distilled_patch16_224-"
    '649709d9.pth, jx_vit_base_p16_224-80ecf9dd.pth, imagenet21k+imagenet2012_ViT-B_16.npz)'
)
# Classifiers, and the token that DeiT distils into.
UNUSED = ('head.', 'head_dist.', 'fc.', 'pre_logits.', 'dist_token')


@IMAGE_ENCODERS.register_module()
class TimmViT(nn.Module):
    """The embedding is the class token's; names of parameters are timm's.

    Args:
        name: timm's name of a ViT or DeiT with a class token and no other token beside the patches,
            or its sizes as a dict, in timm's words (``patch_size``, ``embed_dim``, ``depth``,
            ``num_heads``, ``mlp_ratio``, ...). Nothing is ever downloaded.
        image_size: Input image as (rows, columns), in pixels. Pixels beyond the last whole patch
            are not seen.
        stride: Step between patches, in pixels; None for the patch size.
        num_blocks: How many blocks run, counted from the first; None for all. LGUR leaves out the
            last.
        final_norm: Whether the norm behind the last block runs.
        dropout: Share of the numbers that training drops behind the position embedding and behind
            both layers of each MLP.
        attention_dropout: Share of the attention weights that training drops.
        drop_path: Share of the images whose last block training skips, by branch; it rises
            linearly from 0 at the first block, and the kept ones are scaled up.
        align_corners: Whether a position embedding that is resized keeps its corners, as SAF's
            does; else corners lie half a cell beyond the outer rows.
        pretrained: Weights loaded before training: a file of timm, DeiT or Google (``.npz``), of
            which the position embedding is resized to the grid and blocks that do not run are left
            out, or a checkpoint of this toolbox with this encoder. None for random weights.

    Raises:
        ValueError: If timm has no such model, or it is not a plain ViT, if the image is smaller
            than a patch, or if there are not so many blocks.
    """

    provides = frozenset({'tokens', 'attention'})
    # Parameters that a subclass has and published files do not.
    adds: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        name: str | dict,
        image_size: tuple[int, int],
        stride: int | None = None,
        num_blocks: int | None = None,
        final_norm: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
        align_corners: bool = False,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        vit = _build(name, drop_path)
        count = len(vit.blocks) if num_blocks is None else num_blocks
        if not 1 <= count <= len(vit.blocks):
            raise ValueError(f'num_blocks is in 1..{len(vit.blocks)} for {name!r}, got {count}')
        self.pretrained, self.align_corners = pretrained, align_corners
        self.num_unused_blocks = len(vit.blocks) - count
        patch = vit.patch_embed.patch_size[0]
        rows, columns = image_size
        grid, step = patch_grid((rows, columns), patch, stride)
        self.patch_embed = vit.patch_embed
        self.patch_embed.proj.stride = (step, step)
        self.cls_token = vit.cls_token
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + math.prod(grid), vit.embed_dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)  # as timm's and Google's
        self.pos_drop = nn.Dropout(dropout)
        self.norm_pre = vit.norm_pre
        self.blocks = vit.blocks[:count]
        self.norm = vit.norm if final_norm else nn.Identity()
        for block in self.blocks:
            block.attn.attn_drop = nn.Dropout(attention_dropout)
            block.mlp.drop1, block.mlp.drop2 = nn.Dropout(dropout), nn.Dropout(dropout)
        self.spec = ImageSpec(
            width=vit.embed_dim,
            image_size=(rows, columns),
            grid=grid,
            patch_size=patch,
            patch_stride=step,
            takes_some_patches=True,
        )

    def load_weights(self) -> None:
        """Loads ``pretrained``.

        Raises:
            FileNotFoundError: If there is no such file; says which to get.
            ValueError: If keys or shapes do not match; names them.
        """
        if self.pretrained is None:
            return
        path = find_weights(self.pretrained, 'image', WANTED)
        if path.suffix == '.npz':
            state, is_ours = read_google_weights(path), False
        else:
            state, is_ours = read_weights(path, 'image')
        count = len(self.blocks)
        unused = [f'blocks.{count + number}.' for number in range(self.num_unused_blocks)]
        if isinstance(self.norm, nn.Identity):
            unused.append('norm.')
        if is_ours:
            load_weights(self, state, path, unused=tuple(unused))
            return
        if 'pos_embed' in state:
            with named_faults(path):
                rows = state['pos_embed'][0]
                # The second row is that of the token that DeiT distils into.
                rows = torch.cat([rows[:1], rows[2 if 'dist_token' in state else 1 :]])
                state = {**state, 'pos_embed': self._resize(rows)[None]}
        # What a subclass adds, other files lack.
        own = {name: p.detach() for name, p in self.named_parameters() if name in self.adds}
        state = {**own, **state}
        load_weights(self, state, path, unused=(*UNUSED, *unused))

    def _resize(self, rows: Tensor) -> Tensor:
        """Position embedding (1 + N, W) of the grid from one (1 + n * n, W) of n x n patches."""
        side, grid = math.isqrt(len(rows) - 1), self.spec.grid
        if side * side != len(rows) - 1 or (side, side) == grid:
            return rows
        cells = rows[1:].T.reshape(1, -1, side, side)
        cells = F.interpolate(cells, grid, mode='bilinear', align_corners=self.align_corners)
        return torch.cat([rows[:1], cells[0].flatten(1).T])

    def forward(
        self, images: Tensor, reads: frozenset[str] = frozenset(), keep: Tensor | None = None
    ) -> ImageFeatures:
        """Encodes normalised images (B, 3, H, W) of ``spec.image_size``.

        The last block runs on the class token alone where nothing reads the others.

        Args:
            images: The images.
            reads: Names of features.
            keep: Indices (B, K) of the patches that enter the transformer; tokens are then 1 + K,
                in this order.

        Raises:
            ValueError: If the images have another size, or if it has no such features.
        """
        check_image_request(self, images, reads, keep)
        *blocks, last = self.blocks
        x = self._embed(images, keep)
        for block in blocks:
            x = block(x)
        attention = _attention_row(last, x) if 'attention' in reads else None
        if 'tokens' not in reads:
            return ImageFeatures(self.norm(_class_token(last, x))[:, 0], attention=attention)
        tokens = self.norm(last(x))
        return ImageFeatures(tokens[:, 0], tokens=tokens, attention=attention)

    def positions(self) -> Tensor:
        """What is added to class token and patches, (1, 1 + N, W)."""
        return self.pos_embed

    def _embed(self, images: Tensor, keep: Tensor | None) -> Tensor:
        x = self.patch_embed.norm(embed_patches(images, self.patch_embed.proj, keep))
        positions = self.positions()
        first, others = positions[:, :1], positions[0, 1:]
        # Not others[keep]: threads would add up its gradient in any order.
        x = x + (others if keep is None else F.embedding(keep, others))
        first = (self.cls_token + first).expand(x.shape[0], -1, -1)
        return self.norm_pre(self.pos_drop(torch.cat([first.to(x.dtype), x], dim=1)))


def _class_token(block: Block, x: Tensor) -> Tensor:
    """What the block gives for the first token (B, 1, W) of x (B, L, W)."""
    attention, row = block.attn, x[:, :1]
    query, key, value = _heads(block, x)
    dropout = attention.attn_drop.p if attention.training else 0.0
    mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    mixed = attention.proj_drop(attention.proj(mixed.transpose(1, 2).flatten(2)))
    row = row + block.drop_path1(block.ls1(mixed))
    return row + block.drop_path2(block.ls2(block.mlp(block.norm2(row))))


@torch.no_grad()
def _attention_row(block: Block, x: Tensor) -> Tensor:
    """Attention (B, N) of the class token to the patches in x (B, 1 + N, W), mean over heads."""
    query, key, _ = _heads(block, x)
    scores = (query * block.attn.scale) @ key.transpose(2, 3)
    return scores.softmax(dim=-1).mean(dim=1)[:, 0, 1:]


def _heads(block: Block, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query of the first token (B, heads, 1, d), keys and values of all (B, heads, L, d)."""
    attention, x = block.attn, block.norm1(x)
    weight, bias = attention.qkv.weight, attention.qkv.bias
    width = len(weight) // 3
    of_query, of_others = (None, None) if bias is None else (bias[:width], bias[width:])
    query = F.linear(x[:, :1], weight[:width], of_query)
    key, value = F.linear(x, weight[width:], of_others).chunk(2, dim=2)
    query, key, value = (
        part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in (query, key, value)
    )
    return attention.q_norm(query), attention.k_norm(key), value


def _build(name: str | dict, drop_path: float) -> VisionTransformer:
    """timm's module without a classifier; refuses what the forward pass here does not know."""
    if isinstance(name, dict):
        vit = VisionTransformer(**name, num_classes=0, drop_path_rate=drop_path)
    elif ':' in name:
        raise ValueError(
            f"name is an architecture of timm, got {name!r}; 'hf-hub:' and 'local-dir:' would read "
            f'a model from elsewhere: set pretrained to a local file instead'
        )
    elif not timm.is_model(name):
        near = get_close_matches(name, timm.list_models())
        raise ValueError(f'timm has no model {name!r}; it has {near}, see timm.list_models()')
    else:
        vit = timm.create_model(name, pretrained=False, num_classes=0, drop_path_rate=drop_path)
    if reason := _why_not_plain(vit):
        raise ValueError(f'TimmViT takes a plain ViT; {name!r} {reason}')
    return vit


def _why_not_plain(vit: nn.Module) -> str | None:
    # Subclasses have a further token or another forward pass.
    if type(vit) is not VisionTransformer:
        return f'is a {type(vit).__name__}'
    if vit.global_pool != 'token' or vit.num_prefix_tokens != 1 or vit.no_embed_class:
        return 'does not have the class token alone beside its patches'
    if any(type(block) is not Block for block in vit.blocks):
        return f'has blocks of another kind ({type(vit.blocks[0]).__name__})'
    attention = vit.blocks[0].attn
    further = getattr(attention, 'norm', None), getattr(attention, 'gate', None)
    if any(part is not None and not isinstance(part, nn.Identity) for part in further):
        return 'normalises or gates what its heads give'
    return None
