"""Image encoders: normalised images in, embeddings, tokens and feature maps out."""

from .resnet import ResNet

__all__ = ['ResNet']
