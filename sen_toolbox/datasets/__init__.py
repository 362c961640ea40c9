"""Data sets, their transforms, samplers and collation."""

from .collate import collate_pairs
from .cuhk_pedes import CUHKPEDES
from .custom import CaptionedImages
from .drawn_world import DrawnWorld
from .icfg_pedes import ICFGPEDES
from .pedes import PedesDataset
from .rstp_reid import RSTPReid
from .samplers import IdentityGroupSampler
from .statistics import dataset_table
from .synthetic_pedes import SyntheticPedes
from .ufine import UFine6926

__all__ = [
    'CUHKPEDES',
    'CaptionedImages',
    'DrawnWorld',
    'ICFGPEDES',
    'IdentityGroupSampler',
    'PedesDataset',
    'RSTPReid',
    'SyntheticPedes',
    'UFine6926',
    'collate_pairs',
    'dataset_table',
]
