"""Drawn pedestrians with generated captions: a whole data set from a seed."""

from .describe import describe_person
from .draw import draw_person
from .people import Person, sample_people
from .write import DRAWN_IDS, write_synthetic_pedes

__all__ = [
    'DRAWN_IDS',
    'Person',
    'describe_person',
    'draw_person',
    'sample_people',
    'write_synthetic_pedes',
]
