"""Embeds all patches of an image, or some of them alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def patch_grid(
    image_size: tuple[int, int], patch_size: int, stride: int | None
) -> tuple[tuple[int, int], int]:
    """Grid (rows, columns) of the patches in an image, and the step between them in pixels.

    Args:
        image_size: The image as (rows, columns), in pixels. What lies beyond the last whole patch
            is not seen.
        patch_size: Side of a patch, in pixels.
        stride: The step; None for the patch size.

    Raises:
        ValueError: If the image is smaller than a patch.
    """
    rows, columns = image_size
    if min(rows, columns) < patch_size:
        raise ValueError(f'image_size {image_size} is smaller than a patch of {patch_size} pixels')
    step = stride or patch_size
    return ((rows - patch_size) // step + 1, (columns - patch_size) // step + 1), step


def embed_patches(images: Tensor, convolution: nn.Conv2d, keep: Tensor | None = None) -> Tensor:
    """What the convolution gives for patches of images (B, 3, H, W), row by row (B, N, W).

    Args:
        images: The images.
        convolution: Without padding.
        keep: Indices (B, K) of the patches; the others are not computed then. None for all.
    """
    if keep is None:
        return convolution(images).flatten(2).transpose(1, 2)
    (height, width), (down, right) = convolution.kernel_size, convolution.stride
    windows = images.unfold(2, height, down).unfold(3, width, right)
    batch = torch.arange(len(images), device=images.device)[:, None]
    columns = windows.shape[3]
    patches = windows[batch, :, keep // columns, keep % columns]
    return F.linear(patches.flatten(2), convolution.weight.flatten(1), convolution.bias)
