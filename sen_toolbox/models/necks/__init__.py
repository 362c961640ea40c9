"""Modules that heads run on a backbone's tokens."""

from .restoration import TextGuidedDecoder

__all__ = ['TextGuidedDecoder']
