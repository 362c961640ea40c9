"""TIMAM: a discriminator tells images from captions, and both encoders learn to fool it."""

from . import modality, optimizer

__all__ = ['modality', 'optimizer']
