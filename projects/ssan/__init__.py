"""SSAN: part-aware features of a person and the second caption of the same person."""

from . import neck, text_encoder

__all__ = ['neck', 'text_encoder']
