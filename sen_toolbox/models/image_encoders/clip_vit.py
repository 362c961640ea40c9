"""CLIP's vision transformer on any grid of patches."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.blocks import attention_row, run_block
from sen_toolbox.models.features import ImageFeatures, ImageSpec
from sen_toolbox.models.image_encoders.patches import embed_patches, patch_grid
from sen_toolbox.models.open_clip_config import (
    build_transformer,
    make_norm,
    open_clip_config,
    tower_settings,
)
from sen_toolbox.models.requests import check_image_request
from sen_toolbox.models.weights import fit_grid, load_tower
from sen_toolbox.registry import IMAGE_ENCODERS

POSITION_KEY, PROJECTION_KEY = 'positional_embedding', 'proj'
# Settings of open_clip's towers with its defaults.
DEFAULTS = dict(
    layers=12, width=768, head_width=64, mlp_ratio=4.0, patch_size=16, ls_init_value=None,
    act_kwargs=None, norm_kwargs=None,
)  # fmt: skip
# Those that change what the forward pass here computes.
PLAIN = dict(
    timm_model_name=None, attentional_pool=False, no_ln_pre=False, pool_type='tok',
    final_ln_after_pool=False, pos_embed_type='learnable', block_type=None, qk_norm=False,
    scaled_cosine_attn=False, scale_heads=False, scale_attn_inner=False, scale_attn=False,
    scale_fc=False,
)  # fmt: skip
# Those of other towers, and what is chosen otherwise here.
UNREAD = (
    'image_size', 'patch_dropout', 'output_tokens', 'attn_pooler_queries', 'attn_pooler_heads',
    'timm_model_pretrained', 'timm_pool', 'timm_proj', 'timm_proj_bias', 'timm_drop',
    'timm_drop_path',
)  # fmt: skip


@IMAGE_ENCODERS.register_module()
class CLIPVisionTransformer(nn.Module):
    """A vision transformer that returns every token, projected to the joint space.

    Names and initial weights are those of open_clip, which projects only the pooled token and
    embeds all patches.

    Args:
        arch: Name of an open_clip model with a plain ViT, for instance 'ViT-B-16-quickgelu', or
            'tiny', or its config as a dict (``embed_dim``, ``vision_cfg``, ``quick_gelu``).
        image_size: Input image as (rows, columns), in pixels. Pixels beyond the last whole patch
            are not seen.
        stride: Step between patches, in pixels; None for the patch size.
        projected: Whether tokens are projected to the joint space; else they have the width of the
            transformer.
        pretrained: Weights loaded before training: 'openai', or a file: OpenAI's ``.pt``, an
            open_clip checkpoint, safetensors, or a checkpoint of this toolbox or in the layout of
            IRRA, of which only the image tower is taken. None for random weights.

    Raises:
        KeyError: If open_clip has no such model.
        ValueError: If the architecture is not a plain ViT, or the image smaller than a patch.
    """

    provides = frozenset({'tokens', 'attention'})

    def __init__(
        self,
        *,
        arch: str | dict,
        image_size: tuple[int, int],
        stride: int | None = None,
        projected: bool = True,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        config = open_clip_config(arch)
        settings, odd = tower_settings(config['vision_cfg'], DEFAULTS, PLAIN, UNREAD)
        _require_plain(arch, odd, settings.layers)
        self.arch, self.pretrained = arch, pretrained
        patch, width = settings.patch_size, settings.width
        rows, columns = image_size
        grid, step = patch_grid((rows, columns), patch, stride)
        # In the order of open_clip, so that a seed draws its weights.
        scale = width**-0.5
        self.conv1 = nn.Conv2d(3, width, patch, step, bias=False)
        self.class_embedding = _drawn(scale, width)
        self.positional_embedding = _drawn(scale, 1 + grid[0] * grid[1], width)
        norm = make_norm(settings)
        self.ln_pre = norm(width)
        self.transformer = build_transformer(
            settings, width // settings.head_width, quick_gelu=config.get('quick_gelu', False)
        )
        self.ln_post = norm(width)
        projection = _drawn(scale, width, config['embed_dim'])
        self.register_parameter('proj', projection if projected else None)
        self.spec = ImageSpec(
            width=config['embed_dim'] if projected else width,
            image_size=(rows, columns),
            grid=grid,
            patch_size=patch,
            patch_stride=step,
            takes_some_patches=True,
        )

    def load_weights(self) -> None:
        """Loads ``pretrained``; the position embedding is resized to the grid.

        Raises:
            FileNotFoundError: If the weights are not to be had; names the file to put where.
            ValueError: If keys or shapes do not match; names them.
        """
        if self.pretrained is not None:
            load_tower(self, 'image', self.pretrained, self.arch, self._fit)

    def _fit(self, state: dict[str, Tensor], is_ours: bool) -> str:
        grid, _ = self.spec.patches()
        position, phrase = fit_grid(state[POSITION_KEY], grid, square=not is_ours)
        state[POSITION_KEY] = position
        if self.proj is None:
            state.pop(PROJECTION_KEY, None)
        return f'position embedding {phrase}'

    def forward(
        self, images: Tensor, reads: frozenset[str] = provides, keep: Tensor | None = None
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
        *blocks, last = self.transformer.resblocks
        x = self._embed(images, keep)
        for block in blocks:
            x = run_block(block, x)
        attention = attention_row(last, x, x[:, :1])[:, 1:] if 'attention' in reads else None
        if 'tokens' not in reads:
            pooled = self._project(run_block(last, x, queries=x[:, :1]))[:, 0]
            return ImageFeatures(pooled, attention=attention)
        tokens = self._project(run_block(last, x))
        return ImageFeatures(tokens[:, 0], tokens=tokens, attention=attention)

    def _embed(self, images: Tensor, keep: Tensor | None) -> Tensor:
        x = embed_patches(images, self.conv1, keep)
        position = self.positional_embedding.to(x.dtype)
        # Not position[1:][keep]: threads would add up its gradient in any order.
        x = x + (position[1:] if keep is None else F.embedding(keep, position[1:]))
        first = self.class_embedding.to(x.dtype) + position[0]
        return self.ln_pre(torch.cat([first.expand(x.shape[0], 1, -1), x], dim=1))

    def _project(self, x: Tensor) -> Tensor:
        x = self.ln_post(x)
        return x if self.proj is None else x @ self.proj


def _drawn(std: float, *shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.normal_(torch.empty(shape), std=std))


def _require_plain(arch: str | dict, odd: list[str], layers: object) -> None:
    if not isinstance(layers, int):
        odd = [*odd, 'layers (a ResNet)']
    if odd:
        raise ValueError(
            f'CLIPVisionTransformer takes a plain ViT; {arch!r} differs in {", ".join(odd)}: use '
            'CLIPResNet for a ResNet of CLIP, OpenCLIPImageEncoder for a tower of timm'
        )
