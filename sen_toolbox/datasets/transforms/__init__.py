"""Transforms of a record: image, captions, packing. MMCV adds its own."""

from .augment import MakeViews, TorchvisionOps
from .corrupt import CorruptWords
from .image import LoadImage, PadCrop, RandomFlip, ResizeImage
from .pack import PackPair
from .text import MaskWords, PruneCaption, Tokenize
from .text_augment import BackTranslate, CleanCaption, DeleteWords

__all__ = [
    'BackTranslate',
    'CleanCaption',
    'CorruptWords',
    'DeleteWords',
    'LoadImage',
    'MakeViews',
    'MaskWords',
    'PackPair',
    'PadCrop',
    'PruneCaption',
    'RandomFlip',
    'ResizeImage',
    'Tokenize',
    'TorchvisionOps',
]
