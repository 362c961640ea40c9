"""Transforms of a record: image, captions, packing. MMCV adds its own.

Attributes of a class say what others must know of it:

- ``changes``: the keys of the record that it adds or changes.
- ``deterministic``: that it draws nothing.
- ``reads_file``: that it makes ``img`` from a file, which whoever has an image leaves out.
- ``rewrites_captions``: that captions behind it are not those of the data set, so that nothing
  made of them beforehand is of use.

A method ``see_pairs(pairs)`` is called once with all records of a training split.
"""

from .augment import MakeViews, TorchvisionOps
from .corrupt import CorruptWords
from .hide_colours import HideColours
from .image import LoadImage, PadCrop, RandomFlip, ResizeImage
from .pack import PackPair
from .rewritten_caption import RewrittenCaption
from .second_caption import SecondCaption
from .text import MaskWords, PruneCaption, Tokenize
from .text_augment import BackTranslate, CleanCaption, DeleteWords

__all__ = [
    'BackTranslate',
    'CleanCaption',
    'CorruptWords',
    'DeleteWords',
    'HideColours',
    'LoadImage',
    'MakeViews',
    'MaskWords',
    'PackPair',
    'PadCrop',
    'PruneCaption',
    'RandomFlip',
    'ResizeImage',
    'RewrittenCaption',
    'SecondCaption',
    'Tokenize',
    'TorchvisionOps',
]
