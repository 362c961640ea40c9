"""Moves a batch to the device and turns uint8 pixels into normalised floats there."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sen_toolbox.checks import checked_share
from sen_toolbox.registry import MODELS
from sen_toolbox.text.tokens import Tokens

# Random erasing (arXiv:1708.04896) as torchvision and the SEN and IRRA releases have it: share of
# the image's area, height by width, and how often a rectangle that does not fit is drawn again.
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = (0.3, 3.3)
ERASING_ATTEMPTS = 10


@MODELS.register_module()
class PairPreprocessor(nn.Module):
    """Normalises images on the device; in training erases a random rectangle afterwards.

    Erasing follows normalisation and writes ``mean`` itself, as the SEN and IRRA releases do: the
    filled value is the normalised 0.48, 0.46, 0.41, not the mean pixel.

    Args:
        mean: Mean of each channel of an image in the range 0..1.
        std: Standard deviation of each channel.
        erasing_prob: Probability that an image of a training batch loses a rectangle of 2 % to
            40 % of its area, in 0..1.
        also: Keys of further pictures of a batch, uint8 (B, ..., 3, H, W), such as ``views``. They
            are normalised, too, and never erased.
    """

    def __init__(
        self,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        erasing_prob: float = 0.0,
        also: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.erasing_prob = checked_share('erasing_prob', erasing_prob)
        self.keys = ('images', *also)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Returns the batch on the device with float images (B, 3, H, W).

        Args:
            data: A collated batch; ``images`` is uint8 (B, 3, H, W).
            training: Whether to erase.
        """
        data = {key: self._moved(value) for key, value in data.items()}
        for key in self.keys:
            if key in data:
                data = {**data, key: self._normalise(data[key])}
        return self.erase(data) if training and self.erasing_prob > 0 else data

    def erase(self, data: dict) -> dict:
        """The batch with rectangles of its normalised images erased."""
        inside = erased_rectangles(data['images'], self.erasing_prob)
        return {**data, 'images': torch.where(inside, self.mean, data['images'])}

    def _moved(self, value: Tensor | Tokens) -> Tensor | Tokens:
        if isinstance(value, Tokens):
            return value.map(self._moved)
        # Without waiting, which has no effect unless the loader pins its batches.
        return value.to(self.mean.device, non_blocking=True)

    def _normalise(self, pixels: Tensor) -> Tensor:
        # Images come with their pixels together; the towers want planes.
        pixels = pixels.contiguous()
        return (pixels.to(self.mean.dtype) / 255 - self.mean) / self.std

    def to_pixels(self, images: Tensor) -> Tensor:
        """Inverse of the normalisation: pixels in 0..255 of normalised images (B, 3, H, W)."""
        return (images * self.std + self.mean) * 255


def erased_rectangles(
    images: Tensor, prob: float, shares: tuple[float, float] = ERASED_AREA
) -> Tensor:
    """Draws what random erasing takes from each image, for the batch at once and on its device.

    Args:
        images: (B, C, H, W).
        prob: Probability that an image loses a rectangle.
        shares: The least and the largest share of the image's area that it may have, in 0..1.

    Returns:
        (B, 1, H, W) bool, true inside.
    """
    count, _, rows, columns = images.shape
    device = images.device
    # Rectangles by attempt and image; the first that fits is taken, as a loop would.
    draws = torch.rand(2, ERASING_ATTEMPTS, count, device=device)
    low, high = shares
    area = (low + (high - low) * draws[0]) * (rows * columns)
    low, high = map(math.log, ERASED_ASPECT)
    aspect = (low + (high - low) * draws[1]).exp()
    height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (height < rows) & (width < columns)
    misses = (~fits).long().cumprod(0).sum(0, keepdim=True)
    chosen = misses.clamp(max=ERASING_ATTEMPTS - 1)
    height, width = height.gather(0, chosen)[0], width.gather(0, chosen)[0]
    erases, down, right = torch.rand(3, count, device=device)
    erases = (erases < prob) & (misses[0] < ERASING_ATTEMPTS)
    top, left = (down * (rows - height + 1)).floor(), (right * (columns - width + 1)).floor()
    vertical = _between(top, height, rows) & erases[:, None]
    return (vertical[:, :, None] & _between(left, width, columns)[:, None, :])[:, None]


def _between(start: Tensor, length: Tensor, size: int) -> Tensor:
    """(B, size) bool: the positions from start (B,) on, length (B,) of them."""
    places = torch.arange(size, device=start.device)
    return (places >= start[:, None]) & (places < (start + length)[:, None])
