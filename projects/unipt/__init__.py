"""UniPT: both encoders are pretrained on captions that CLIP chose, then trained as LGUR's are."""

from . import heads, neck, transforms

__all__ = ['heads', 'neck', 'transforms']
