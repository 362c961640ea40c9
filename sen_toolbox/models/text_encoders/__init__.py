"""Text encoders: tokens in, embeddings out."""

from .bert import BERT
from .clip_text import CLIPTextTransformer
from .lstm import RecurrentTextEncoder

__all__ = ['BERT', 'CLIPTextTransformer', 'RecurrentTextEncoder']
