"""Dual Path as a plug-in: its encoders, heads, sampler and transforms."""

from . import heads, image, samplers, text, transforms  # registers the parts

__all__ = ['heads', 'image', 'samplers', 'text', 'transforms']
