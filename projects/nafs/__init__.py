"""NAFS: a ResNet in stairs, clauses, and attention between all scales of an image and a caption."""

from . import clauses, head, image, text

__all__ = ['clauses', 'head', 'image', 'text']
