"""ViTAA: branches for attributes of a person, told by segmentations and phrases."""

from . import head, image, local_align, phrases, pictures

__all__ = ['head', 'image', 'local_align', 'phrases', 'pictures']
