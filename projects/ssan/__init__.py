"""SSAN: part-aware features of a person and the second caption of the same person."""

from . import head, neck, text_encoder

__all__ = ['head', 'neck', 'text_encoder']
