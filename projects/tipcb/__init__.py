"""TIPCB: stripes of an image and branches of a text network, matched at three levels."""

from . import head, text_resnet

__all__ = ['head', 'text_resnet']
