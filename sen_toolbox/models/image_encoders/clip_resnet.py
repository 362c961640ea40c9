"""CLIP's ResNet with attention pooling on any grid."""

import math

import torch
from torch import Tensor, nn

from sen_toolbox.models.batch_norm import use_global_batch_norm
from sen_toolbox.models.features import ImageFeatures, ImageSpec
from sen_toolbox.models.image_encoders.resnet import STAGES, run_stages
from sen_toolbox.models.open_clip_config import open_clip_config
from sen_toolbox.models.open_clip_package import open_clip
from sen_toolbox.models.requests import check_image_request
from sen_toolbox.models.weights import fit_grid, load_tower
from sen_toolbox.registry import IMAGE_ENCODERS

POSITION_KEY = 'attnpool.positional_embedding'


@IMAGE_ENCODERS.register_module()
class CLIPResNet(open_clip.modified_resnet.ModifiedResNet):
    """The embedding is the attention pool's, in the joint space; names are open_clip's.

    Batch norm has the statistics of the batch of all processes.

    Args:
        arch: open_clip's name of a model with such a ResNet ('RN50', 'RN101', ...), or its config
            as a dict (``embed_dim``, ``vision_cfg``).
        image_size: Input image as (rows, columns), in pixels. A row or column of a map that has
            no partner is not seen by the next stage.
        last_stride: Step of the last stage, 1 or 2. CLIP's is 2.
        pretrained: Weights loaded before training: 'openai', or a file: OpenAI's ``.pt``, an
            open_clip checkpoint, safetensors, or a checkpoint of this toolbox, of which only the
            image tower is taken. None for random weights.

    Raises:
        KeyError: If open_clip has no such model.
        ValueError: If the model has another image tower, if there is no such stride, or if the
            image is smaller than a cell of the last map.
    """

    provides = frozenset(f'stages.{name}' for name in STAGES)

    def __init__(
        self,
        *,
        arch: str | dict,
        image_size: tuple[int, int],
        last_stride: int = 2,
        pretrained: str | None = None,
    ) -> None:
        config = open_clip_config(arch)
        settings = open_clip.model.CLIPVisionCfg(**config['vision_cfg'])
        if settings.timm_model_name or isinstance(settings.layers, int):
            raise ValueError(
                f'CLIPResNet takes a ResNet of CLIP; {arch!r} has another image tower: use '
                'CLIPVisionTransformer for a plain ViT, OpenCLIPImageEncoder for a tower of timm'
            )
        if last_stride not in (1, 2):
            raise ValueError(f'last_stride is 1 or 2, got {last_stride}')
        super().__init__(
            layers=settings.layers,
            output_dim=config['embed_dim'],
            heads=settings.width * 32 // settings.head_width,
            width=settings.width,
        )
        self.arch, self.pretrained = arch, pretrained
        if last_stride == 1:
            self.layer4[0].avgpool = nn.Identity()
            self.layer4[0].downsample[0] = nn.Identity()
        use_global_batch_norm(self)
        rows, columns = image_size
        # The first convolution rounds an odd side up, each pooling rounds it down.
        shape = tuple((side + 1) // 2 // 2 for side in (rows, columns))
        shapes = {}
        for number, (name, stride) in enumerate(zip(STAGES, (1, 2, 2, last_stride), strict=True)):
            shape = tuple(side // stride for side in shape)
            shapes[name] = (4 * settings.width * 2**number, *shape)
        if 0 in shape:
            raise ValueError(f'image_size {rows, columns} is too small: layer4 is {shape}')
        width = shapes['layer4'][0]
        self.attnpool.positional_embedding = nn.Parameter(
            torch.randn(1 + math.prod(shape), width) / width**0.5
        )
        self.spec = ImageSpec(width=config['embed_dim'], image_size=(rows, columns), stages=shapes)

    def load_weights(self) -> None:
        """Loads ``pretrained``; the position embedding is resized to the last map.

        Raises:
            FileNotFoundError: If the weights are not to be had; names the file to put where.
            ValueError: If keys or shapes do not match; names them.
        """
        if self.pretrained is not None:
            load_tower(self, 'image', self.pretrained, self.arch, self._fit)

    def _fit(self, state: dict[str, Tensor], is_ours: bool) -> str:
        grid = self.spec.stages['layer4'][1:]
        state[POSITION_KEY], phrase = fit_grid(state[POSITION_KEY], grid, square=not is_ours)
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
        x, stages = run_stages(self, STAGES, self.stem(images), reads)
        return ImageFeatures(pooled(self.attnpool, x), stages=stages)


def pooled(pool: nn.Module, maps: Tensor) -> Tensor:
    """Embeddings (B, D) of maps (B, C, h, w) by CLIP's attention pool.

    Of its queries the mean's alone is computed, as nothing reads what the others find. A score with
    a key is that of the query behind the keys' layer with the token, and the value of a mixture is
    the mixture of values, so that those layers run once for each image, too.
    """
    tokens = maps.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
    tokens = tokens + pool.positional_embedding.to(tokens.dtype)
    by_head = (pool.num_heads, -1)
    query = pool.q_proj(tokens[:, 0]).unflatten(1, by_head)
    query = query / query.shape[2] ** 0.5
    of_keys, of_values = (
        layer.weight.unflatten(0, by_head) for layer in (pool.k_proj, pool.v_proj)
    )
    scores = torch.einsum('bhd,hdc->bhc', query, of_keys) @ tokens.transpose(1, 2)
    # The same for all tokens, so that it changes no weight; but it is a parameter of the model.
    offsets = query * pool.k_proj.bias.unflatten(0, by_head)
    weights = (scores + offsets.sum(dim=2, keepdim=True)).softmax(dim=2)
    found = torch.einsum('bhc,hdc->bhd', weights @ tokens, of_values).flatten(1)
    return pool.c_proj(found + pool.v_proj.bias)
