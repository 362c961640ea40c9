"""open_clip's image towers from timm: EVA, MobileCLIP, PE, ViTamin, ConvNeXt and others."""

import math

import torch
from torch import Tensor, nn

from sen_toolbox.models.features import ImageFeatures, ImageSpec
from sen_toolbox.models.open_clip_config import open_clip_config, refuse_downloads
from sen_toolbox.models.open_clip_package import open_clip
from sen_toolbox.models.requests import check_image_request
from sen_toolbox.models.weights import fit_grid, load_tower
from sen_toolbox.registry import IMAGE_ENCODERS

POSITION_KEY = 'trunk.pos_embed'


@IMAGE_ENCODERS.register_module()
class OpenCLIPImageEncoder(nn.Module):
    """The embedding is in the joint space, as the tower pools it; names are open_clip's.

    A ViT that pools its class token gives all tokens, too, each sent through the head as if it were
    the class token. No tower encodes only some patches.

    Args:
        arch: open_clip's name of a model with such a tower, for instance 'EVA02-B-16', or its
            config as a dict (``embed_dim``, ``vision_cfg``). timm downloads nothing for it.
        image_size: Input image as (rows, columns), in pixels.
        pretrained: Weights loaded before training: a file of open_clip or a checkpoint of this
            toolbox, of which only the image tower is taken. None for random weights.

    Raises:
        KeyError: If open_clip has no such model.
        ValueError: If the model has another image tower, or the image size does not fit it.
    """

    def __init__(
        self, *, arch: str | dict, image_size: tuple[int, int], pretrained: str | None = None
    ) -> None:
        super().__init__()
        config = open_clip_config(arch)
        settings = open_clip.model.CLIPVisionCfg(**config['vision_cfg'])
        if not settings.timm_model_name:
            raise ValueError(
                f'OpenCLIPImageEncoder takes a tower of timm; {arch!r} has none: use '
                'CLIPVisionTransformer for a plain ViT, CLIPResNet for a ResNet of CLIP'
            )
        refuse_downloads(arch, config)
        self.arch, self.pretrained = arch, pretrained
        tower = open_clip.timm_model.TimmModel(
            settings.timm_model_name,
            pretrained=False,
            pool=settings.timm_pool,
            proj=settings.timm_proj,
            proj_bias=settings.timm_proj_bias,
            drop=settings.timm_drop,
            drop_path=settings.timm_drop_path,
            patch_drop=settings.patch_dropout or None,
            embed_dim=config['embed_dim'],
            image_size=settings.image_size,
        )
        self.trunk, self.head = tower.trunk, tower.head
        rows, columns = image_size
        cell, self.position_grid = _set_input_size(self.trunk, (rows, columns))
        has_tokens = getattr(self.trunk, 'global_pool', None) == 'token'
        self.provides = frozenset({'tokens'} if has_tokens else ())
        self.spec = ImageSpec(
            width=config['embed_dim'],
            image_size=(rows, columns),
            grid=self.position_grid if has_tokens else None,
            patch_size=cell if has_tokens else None,
            patch_stride=cell if has_tokens else None,
        )

    def load_weights(self) -> None:
        """Loads ``pretrained``; a position embedding is resized to the grid.

        Raises:
            FileNotFoundError: If the weights are not to be had; names the file to put where.
            ValueError: If keys or shapes do not match; names them.
        """
        if self.pretrained is not None:
            load_tower(self, 'image', self.pretrained, self.arch, self._fit)

    def _fit(self, state: dict[str, Tensor], is_ours: bool) -> str:
        own = dict(self.named_parameters()).get(POSITION_KEY)
        if own is None or POSITION_KEY not in state:
            return 'no position embedding'
        rows = state[POSITION_KEY].flatten(0, -2)
        # fit_grid expects one row before the grid; towers have one, none or several.
        extra = own.flatten(0, -2).shape[0] - math.prod(self.position_grid)
        cells = torch.cat([rows[:1], rows[extra:]])
        fitted, phrase = fit_grid(cells, self.position_grid, square=not is_ours)
        state[POSITION_KEY] = torch.cat([rows[:extra], fitted[1:]]).view_as(own)
        return f'position embedding {phrase}'

    def forward(
        self, images: Tensor, reads: frozenset[str] = frozenset(), keep: Tensor | None = None
    ) -> ImageFeatures:
        """Encodes normalised images (B, 3, H, W) of ``spec.image_size``.

        Args:
            images: The images.
            reads: Names of features.
            keep: Must be None; it cannot encode some patches alone.

        Raises:
            ValueError: If the images have another size, or if it has no such features.
        """
        check_image_request(self, images, reads, keep)
        if 'tokens' not in reads:
            return ImageFeatures(self.head(self.trunk(images)))
        x = self.trunk.forward_features(images)
        tokens = self.head(self.trunk.forward_head(x.flatten(0, 1)[:, None]))
        tokens = tokens.unflatten(0, x.shape[:2])
        return ImageFeatures(tokens[:, 0], tokens=tokens)


def _set_input_size(trunk: nn.Module, image_size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Fits the tower to the image; returns the side of a cell and the grid (rows, columns)."""
    rows, columns = image_size
    # Towers without an embedding of patches are convolutional; 32 is the stride of most of them.
    cell = trunk.patch_embed.feat_ratio() if hasattr(trunk, 'patch_embed') else 32
    if rows % cell or columns % cell:
        raise ValueError(f'image_size {image_size} is not a multiple of {cell} pixels')
    if hasattr(trunk, 'set_input_size'):
        trunk.set_input_size(image_size)
    return cell, (rows // cell, columns // cell)
