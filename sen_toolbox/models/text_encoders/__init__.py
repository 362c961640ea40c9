"""Text encoders: tokens in, embeddings out."""

from .bert import BERT
from .lstm import RecurrentTextEncoder

__all__ = ['BERT', 'RecurrentTextEncoder']
