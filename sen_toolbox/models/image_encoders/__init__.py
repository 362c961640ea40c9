"""Image encoders: normalised images in, embeddings, tokens and feature maps out."""

from .clip_vit import CLIPVisionTransformer

__all__ = ['CLIPVisionTransformer']
