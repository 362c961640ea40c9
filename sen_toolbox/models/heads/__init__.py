"""Heads: what a method adds to a backbone, each with its loss."""

from .identity import IdentityHead
from .masked_word import MaskedWordHead
from .matching import MatchingHead
from .pair_ranking import PairRankingHead
from .part_ranking import PartRankingHead
from .projected_identity import CMPCHead
from .restoration import RestorationHead
from .restoration_targets import PatchFeatureTarget, PatchMeanTarget, PixelTarget
from .scaled_matching import ScaledMatchingHead
from .self_supervision import SelfSupervisionHead
from .token_selection import TokenSelectionHead
from .unit_classifier import UnitClassifierHead
from .weighted_matching import WeightedMatchingHead

__all__ = [
    'CMPCHead',
    'IdentityHead',
    'MaskedWordHead',
    'MatchingHead',
    'PairRankingHead',
    'PartRankingHead',
    'PatchFeatureTarget',
    'PatchMeanTarget',
    'PixelTarget',
    'RestorationHead',
    'ScaledMatchingHead',
    'SelfSupervisionHead',
    'TokenSelectionHead',
    'UnitClassifierHead',
    'WeightedMatchingHead',
]
