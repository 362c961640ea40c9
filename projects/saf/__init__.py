"""SAF: the class token of images and captions asks for parts, through one attention block."""

from . import head, neck

__all__ = ['head', 'neck']
