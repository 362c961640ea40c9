"""What joins an image encoder and a text encoder."""

from .dual import DualEncoder

__all__ = ['DualEncoder']
