"""What a restoration predicts of each hidden patch."""

from torch import Tensor

from sen_toolbox.models.features import ImageSpec, PairFeatures, PairSpec
from sen_toolbox.registry import RESTORATION_TARGETS


@RESTORATION_TARGETS.register_module()
class PixelTarget:
    """The normalised colours of all pixels of a patch, as in SEN.

    Args:
        spec: Sizes of the backbone.
    """

    reads: frozenset[str] = frozenset()

    def __init__(self, *, spec: PairSpec) -> None:
        self.image = spec.image
        _, side = self.image.patches()
        self.num_values = side**2 * 3

    def __call__(self, pair: PairFeatures, images: Tensor) -> Tensor:
        """Pixels (B, N, P) of the patches of images (B, 3, H, W)."""
        return cut_patches(images, self.image)

    def paint(self, values: Tensor) -> Tensor:
        """The pixels (B, N, P) that a board shows for predicted values."""
        return values


@RESTORATION_TARGETS.register_module()
class PatchMeanTarget:
    """The mean normalised colour of a patch, one of the targets that BiLMa compares.

    Args:
        spec: Sizes of the backbone.
    """

    reads: frozenset[str] = frozenset()
    num_values = 3

    def __init__(self, *, spec: PairSpec) -> None:
        self.image = spec.image

    def __call__(self, pair: PairFeatures, images: Tensor) -> Tensor:
        """Mean colours (B, N, 3) of the patches of images (B, 3, H, W)."""
        return cut_patches(images, self.image).unflatten(2, (-1, 3)).mean(dim=2)

    def paint(self, values: Tensor) -> Tensor:
        """Patches (B, N, P) that have one colour (B, N, 3) each."""
        _, side = self.image.patches()
        return values.repeat(1, 1, side**2)


@RESTORATION_TARGETS.register_module()
class PatchFeatureTarget:
    """The token that the image encoder gives a patch of the whole image in colour.

    BiLMa compares such a target, too. The encoder is the one in training, as it is at this step;
    no gradient reaches it through the target, and its last block runs on all tokens for it.

    Args:
        spec: Sizes of the backbone.
    """

    reads = frozenset({'image.tokens'})

    def __init__(self, *, spec: PairSpec) -> None:
        self.num_values = spec.image.width

    def __call__(self, pair: PairFeatures, images: Tensor) -> Tensor:
        """Tokens (B, N, W) of the patches, one row of images for each caption."""
        return pair.of_texts(pair.image.tokens)[:, 1:].detach()


def cut_patches(images: Tensor, spec: ImageSpec) -> Tensor:
    """Cuts images (B, 3, H, W) into patches (B, N, P), pixels row by row, channels last.

    Pixels beyond the last whole patch are left out, as the patch embedding leaves them.
    """
    (rows, columns), size = spec.patches()
    images = images[:, :, : rows * size, : columns * size]
    cut = images.unflatten(3, (columns, size)).unflatten(2, (rows, size))
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
