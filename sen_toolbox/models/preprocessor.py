"""Moves a batch to the device and turns uint8 pixels into normalised floats there."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor
from torchvision.transforms import RandomErasing

from sen_toolbox.registry import MODELS


@MODELS.register_module()
class PairPreprocessor(BaseDataPreprocessor):
    """Normalises images on the device; in training erases a random rectangle afterwards.

    Erasing follows normalisation and writes ``mean`` itself, as the SEN and IRRA releases do: the
    filled value is the normalised 0.48, 0.46, 0.41, not the mean pixel.

    Args:
        mean: Mean of each channel of an image in the range 0..1.
        std: Standard deviation of each channel.
        erasing_prob: Probability that an image of a training batch loses a rectangle of 2 % to
            40 % of its area, in 0..1.
    """

    def __init__(
        self, *, mean: Sequence[float], std: Sequence[float], erasing_prob: float = 0.0
    ) -> None:
        super().__init__()
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)
        if not 0 <= erasing_prob <= 1:
            raise ValueError(f'erasing_prob is a probability in 0..1, got {erasing_prob}')
        self.erase = RandomErasing(erasing_prob, scale=(0.02, 0.4), value=list(mean))

    def forward(self, data: dict, training: bool = False) -> dict:
        """Returns the batch on the device with float images (B, 3, H, W).

        Args:
            data: A collated batch; ``images`` is uint8 (B, 3, H, W), ``views``, if it has any,
                uint8 (B, V, 3, H, W).
            training: Whether to erase; views are never erased.
        """
        data = self.cast_data(data)
        for key in ('images', 'views'):
            if key in data:
                data = {**data, key: self._normalise(data[key])}
        if training and self.erase.p > 0:
            images = torch.stack([self.erase(image) for image in data['images']])
            data = {**data, 'images': images}
        return data

    def _normalise(self, pixels: Tensor) -> Tensor:
        return (pixels.to(self.mean.dtype) / 255 - self.mean) / self.std

    def to_pixels(self, images: Tensor) -> Tensor:
        """Inverse of the normalisation: pixels in 0..255 of normalised images (B, 3, H, W)."""
        return (images * self.std + self.mean) * 255
