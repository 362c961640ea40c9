"""Text encoders: tokens in, embeddings out."""

from .bert import BERT

__all__ = ['BERT']
