"""SSAN: a text encoder of two streams; its parts and its ranking stand in the toolbox."""

from . import text_encoder

__all__ = ['text_encoder']
