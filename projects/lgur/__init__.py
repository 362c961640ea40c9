"""LGUR: images and captions in the words of one dictionary, parts by shared queries."""

from . import head, neck

__all__ = ['head', 'neck']
