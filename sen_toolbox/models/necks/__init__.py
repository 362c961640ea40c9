"""Modules that heads run on a backbone's tokens."""

from .aligned_parts import AlignedParts
from .cross_modal import CrossModalEncoder
from .restoration import TextGuidedDecoder
from .token_selection import TokenSelection

__all__ = ['AlignedParts', 'CrossModalEncoder', 'TextGuidedDecoder', 'TokenSelection']
