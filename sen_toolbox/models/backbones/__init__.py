"""Dual encoders."""

from .clip import CLIPBackbone
from .open_clip import OpenCLIPBackbone

__all__ = ['CLIPBackbone', 'OpenCLIPBackbone']
