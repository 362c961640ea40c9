"""What joins an image encoder and a text encoder."""

from .dual import DualEncoder
from .open_clip_pair import OpenCLIPPair

__all__ = ['DualEncoder', 'OpenCLIPPair']
