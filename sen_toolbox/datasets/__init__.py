"""Data sets, their transforms, samplers and collation."""

from .collate import collate_pairs
from .custom import CaptionedImages
from .pedes import CUHKPEDES, ICFGPEDES, PedesDataset, RSTPReid, SyntheticPedes, UFine6926
from .samplers import IdentityGroupSampler
from .statistics import dataset_table

__all__ = [
    'CUHKPEDES',
    'CaptionedImages',
    'ICFGPEDES',
    'IdentityGroupSampler',
    'PedesDataset',
    'RSTPReid',
    'SyntheticPedes',
    'UFine6926',
    'collate_pairs',
    'dataset_table',
]
