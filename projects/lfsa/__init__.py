"""LFSA: captions intact and corrupted, compared with images of the same person, too."""

from . import corruption, head, losses

__all__ = ['corruption', 'head', 'losses']
