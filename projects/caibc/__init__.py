"""CAIBC: branches with colour, without colour and of colour alone, which learn from each other."""

from . import branches

__all__ = ['branches']
