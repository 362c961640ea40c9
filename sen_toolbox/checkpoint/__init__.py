"""Checkpoints: read without executing code, written atomically, checked key by key.

Configs import this package (``custom_imports``), which makes MMEngine's Runner use both.
"""

from . import loading, saving
from .keys import check_keys

__all__ = ['check_keys', 'loading', 'saving']
