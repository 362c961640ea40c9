"""Image encoders: normalised images in, embeddings, tokens and feature maps out."""

from .clip_resnet import CLIPResNet
from .open_clip import OpenCLIPImageEncoder
from .resnet import ResNet
from .timm import TimmViT

__all__ = ['CLIPResNet', 'OpenCLIPImageEncoder', 'ResNet', 'TimmViT']
