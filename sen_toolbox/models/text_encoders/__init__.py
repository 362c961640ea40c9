"""Text encoders: tokens in, embeddings out."""

from .clip_text import CLIPTextTransformer

__all__ = ['CLIPTextTransformer']
