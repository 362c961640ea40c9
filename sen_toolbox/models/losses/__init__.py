"""Losses: tensors in, scalar out."""

from .align import AlignLoss
from .citc import CITCLoss
from .cmpm import CMPMLoss
from .compound_ranking import CompoundRankingLoss
from .hardest_ranking import HardestRankingLoss
from .info_nce import InfoNCELoss
from .nitc import NITCLoss
from .pixel import MaskedPixelL1Loss, MaskedPixelLoss
from .projection_matching import ProjectionMatchingLoss
from .ritc import RITCLoss
from .sdm import SDMLoss
from .semi_hard_ranking import SemiHardRankingLoss
from .simclr import SimCLRLoss
from .tal import TripletAlignmentLoss
from .triplet import HardestTripletLoss

__all__ = [
    'AlignLoss',
    'CITCLoss',
    'CMPMLoss',
    'CompoundRankingLoss',
    'HardestRankingLoss',
    'HardestTripletLoss',
    'InfoNCELoss',
    'MaskedPixelL1Loss',
    'MaskedPixelLoss',
    'NITCLoss',
    'ProjectionMatchingLoss',
    'RITCLoss',
    'SDMLoss',
    'SemiHardRankingLoss',
    'SimCLRLoss',
    'TripletAlignmentLoss',
]
