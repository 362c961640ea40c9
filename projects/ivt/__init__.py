"""IVT: one transformer for images and captions, several views of both in each batch."""

from . import backbone, encoders, head, preprocessor, schedule, transforms

__all__ = ['backbone', 'encoders', 'head', 'preprocessor', 'schedule', 'transforms']
