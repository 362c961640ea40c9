"""Transforms of a record: image, captions, packing. MMCV adds its own.

Attributes of a class say what others must know of it:

- ``changes``: the keys of the record that it adds or changes.
- ``deterministic``: that it draws nothing.
- ``reads_file``: that it makes ``img`` from a file, which whoever has an image leaves out.
- ``rewrites_captions``: that captions behind it are not those of the data set, so that nothing
  made of them beforehand is of use.

A method ``see_pairs(pairs)`` is called once with all records of a training split.
"""

from sen_toolbox.lazy_names import lazy_names

# The registry looks up a part here, too, and imports its module alone.
HOMES = {
    'BackTranslate': 'text_augment',
    'CleanCaption': 'text_augment',
    'CorruptWords': 'corrupt',
    'CropMiddle': 'image',
    'DeleteWords': 'text_augment',
    'HideColours': 'hide_colours',
    'LoadImage': 'image',
    'MakeViews': 'augment',
    'MaskWords': 'text',
    'PackPair': 'pack',
    'PadCrop': 'shift',
    'PruneCaption': 'text',
    'RandomFlip': 'shift',
    'ResizeImage': 'image',
    'RewrittenCaption': 'rewritten_caption',
    'SecondCaption': 'second_caption',
    'Tokenize': 'text',
    'TorchvisionOps': 'augment',
}
__all__ = [*HOMES]
__getattr__ = lazy_names(__name__, HOMES)
