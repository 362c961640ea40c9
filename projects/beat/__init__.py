"""BEAT: several projections of each modality into the space of the other."""

from . import head, neck

__all__ = ['head', 'neck']
