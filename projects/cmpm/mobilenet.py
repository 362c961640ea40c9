"""MobileNet-v1 (arXiv:1704.04861) without its classifier."""

import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.batch_norm import GlobalBatchNorm
from sen_toolbox.models.features import ImageFeatures, ImageSpec
from sen_toolbox.models.pretrained import load_pretrained
from sen_toolbox.models.requests import check_image_request
from sen_toolbox.registry import IMAGE_ENCODERS

# Channels and stride of the first convolution and of each depthwise separable one behind it.
LAYERS = (
    (32, 2),
    (64, 1),
    *((128, 2), (128, 1)),
    *((256, 2), (256, 1)),
    *((512, 2), *[(512, 1)] * 5),
    *((1024, 2), (1024, 1)),
)
WANTED = 'ImageNet weights of MobileNet-v1 with keys model.0.0.weight ... model.13.4.bias'


@IMAGE_ENCODERS.register_module()
class MobileNetV1(nn.Module):
    """The embedding is the mean over the last feature map.

    Args:
        image_size: Input image as (rows, columns), in pixels.
        shrink: By which all numbers of channels are divided; a divisor of 32.
        dropout: Share of the embedding's numbers that training drops.
        norm_eps: Added to the variance by every batch norm.
        norm_momentum: Share of a batch in the running statistics.
        pretrained: Weights loaded before training: a file with keys ``model.0.0.weight`` and so
            on, or a checkpoint of this toolbox with this encoder. None for random weights.
    """

    provides: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        image_size: tuple[int, int],
        shrink: int = 1,
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        self.pretrained, self.dropout = pretrained, dropout
        layers, channels = [], 3
        for width, stride in LAYERS:
            wide = width // shrink
            steps = [(channels, wide, 3, stride, 1)]
            if layers:
                steps = [(channels, channels, 3, stride, channels), (channels, wide, 1, 1, 1)]
            parts = []
            for before, after, kernel, step, groups in steps:
                parts += [
                    nn.Conv2d(before, after, kernel, step, kernel // 2, groups=groups, bias=False),
                    GlobalBatchNorm(after, norm_eps, norm_momentum),
                    nn.ReLU6(inplace=True),
                ]
            layers.append(nn.Sequential(*parts))
            channels = wide
        self.model = nn.Sequential(*layers)
        self.spec = ImageSpec(width=channels, image_size=tuple(image_size))

    def load_weights(self) -> None:
        """Loads ``pretrained``, all but a classifier.

        Raises:
            FileNotFoundError: If there is no such file; says which to get.
            ValueError: If keys or shapes do not match; names them.
        """
        load_pretrained(self, 'image', WANTED, unused=('fc.',))

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
        mean = self.model(images).mean(dim=(2, 3))
        return ImageFeatures(F.dropout(mean, self.dropout, self.training))
