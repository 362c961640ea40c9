"""Checkpoints: read without executing code, written atomically, checked key by key.

MMEngine's Runner does so too once ``registration`` is imported, which configs do.
"""

from .keys import check_keys

__all__ = ['check_keys']
