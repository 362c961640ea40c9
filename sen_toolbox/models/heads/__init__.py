"""Heads: what a method adds to a backbone, each with its loss."""

from .identity import IdentityHead
from .matching import MatchingHead
from .restoration import RestorationHead

__all__ = ['IdentityHead', 'MatchingHead', 'RestorationHead']
