"""LapsCore: captions colour grey pictures, and pictures name the colours hidden in captions."""

from . import colouring, naming

__all__ = ['colouring', 'naming']
