"""The image path: a ResNet and two layers behind it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.dual_path.layers import linear
from projects.dual_path.norm import DeviationBatchNorm
from sen_toolbox.models.batch_norm import GlobalBatchNorm
from sen_toolbox.models.features import ImageFeatures, ImageSpec
from sen_toolbox.models.pretrained import find_weights, load_weights, read_weights
from sen_toolbox.models.requests import check_image_request
from sen_toolbox.registry import IMAGE_ENCODERS

WANTED = "torchvision's ImageNet weights of the ResNet, or a checkpoint of this toolbox"


@IMAGE_ENCODERS.register_module()
class ResNetPath(nn.Module):
    """ResNet, linear, norm, ReLU, linear, norm; in evaluation the mean of image and mirror image.

    Args:
        image_size: Input image as (rows, columns), in pixels.
        depth: As of ``ResNet``.
        embed_dim: Width of both layers.
        trains_trunk: Whether the ResNet is trained. If not, it still normalises by the batch.
        trunk_momentum: Share of a batch in the running statistics of the ResNet.
        pretrained: Weights loaded before training: torchvision's file for the ResNet alone, or a
            checkpoint of this toolbox with this encoder. None for random weights.
    """

    provides: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        image_size: tuple[int, int],
        depth: int | dict = 50,
        embed_dim: int = 2048,
        trains_trunk: bool = True,
        trunk_momentum: float = 1e-3,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        self.pretrained, self.trains_trunk = pretrained, trains_trunk
        self.trunk = IMAGE_ENCODERS.build(
            dict(type='ResNet', depth=depth, image_size=image_size, pretrained=pretrained)
        )
        for module in self.trunk.modules():
            if isinstance(module, GlobalBatchNorm):
                module.momentum = trunk_momentum
        self.trunk.requires_grad_(trains_trunk)
        self.hidden = linear(self.trunk.spec.width, embed_dim)
        self.hidden_norm = DeviationBatchNorm(embed_dim)
        self.output = linear(embed_dim, embed_dim)
        self.output_norm = DeviationBatchNorm(embed_dim)
        self.spec = ImageSpec(width=embed_dim, image_size=tuple(image_size))

    def load_weights(self) -> None:
        """Loads ``pretrained``.

        Raises:
            FileNotFoundError: If there is no such file; says which to get.
            ValueError: If keys or shapes do not match; names them.
        """
        if self.pretrained is None:
            return
        path = find_weights(self.pretrained, 'image', WANTED)
        state, is_ours = read_weights(path, 'image')
        if is_ours:
            load_weights(self, state, path)
        else:
            self.trunk.load_weights()

    def forward(
        self, images: Tensor, reads: frozenset[str] = frozenset(), keep: Tensor | None = None
    ) -> ImageFeatures:
        """Encodes normalised images (B, 3, H, W) of ``spec.image_size``.

        Args:
            images: The images.
            reads: Names of features; there are none beside the embedding.
            keep: Must be None; it cannot encode some patches alone.

        Raises:
            ValueError: If the images have another size, or if it has no such features.
        """
        check_image_request(self, images, reads, keep)
        embedding = self.embed(self._trunk(images))
        if not self.training:
            embedding = (embedding + self.embed(self._trunk(images.flip(3)))) / 2
        return ImageFeatures(embedding)

    def _trunk(self, images: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.trains_trunk and torch.is_grad_enabled()):
            return self.trunk(images).embedding

    def embed(self, features: Tensor) -> Tensor:
        """Embeddings (B, D) of features (B, W) of the ResNet, before a ReLU."""
        hidden = F.relu(self.hidden_norm(self.hidden(features)))
        return self.output_norm(self.output(hidden))
