"""Data sets, their transforms, samplers and collation."""

from .collate import collate_pairs
from .pedes import CUHKPEDES, ICFGPEDES, PedesDataset, RSTPReid, SyntheticPedes
from .samplers import IdentityGroupSampler
from .statistics import dataset_table
from .taggers import NLTKTagger, RuleTagger

__all__ = [
    'CUHKPEDES',
    'ICFGPEDES',
    'IdentityGroupSampler',
    'NLTKTagger',
    'PedesDataset',
    'RSTPReid',
    'RuleTagger',
    'SyntheticPedes',
    'collate_pairs',
    'dataset_table',
]
