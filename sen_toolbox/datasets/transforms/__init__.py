"""Transforms of a record: image, captions, packing. MMCV adds its own, such as RandomFlip."""

from .image import LoadImage, PadCrop, ResizeImage
from .pack import PackPair
from .text import MaskWords, PruneCaption, Tokenize

__all__ = [
    'LoadImage',
    'MaskWords',
    'PackPair',
    'PadCrop',
    'PruneCaption',
    'ResizeImage',
    'Tokenize',
]
