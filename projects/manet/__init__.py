"""MANet: suppresses what only images have, and finds parts by centres that both share."""

from . import head, neck

__all__ = ['head', 'neck']
