"""CFine: the most attended tokens of CLIP's image tower and of a BERT, in two groups."""

from . import head, neck

__all__ = ['head', 'neck']
