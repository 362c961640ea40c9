"""Drawn pictures with generated captions, whole data sets from a seed: pedestrians, and a world."""

from .describe import describe_person
from .draw import draw_person
from .people import Person, sample_people
from .write import DRAWN_IDS, draw_view, write_synthetic_pedes
from .write_world import WORLD_PICTURES, write_drawn_world

__all__ = [
    'DRAWN_IDS',
    'WORLD_PICTURES',
    'Person',
    'describe_person',
    'draw_person',
    'draw_view',
    'sample_people',
    'write_drawn_world',
    'write_synthetic_pedes',
]
