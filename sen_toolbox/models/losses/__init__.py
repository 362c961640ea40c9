"""Losses: tensors in, scalar out."""

from .info_nce import InfoNCELoss
from .pixel import MaskedPixelLoss
from .sdm import SDMLoss
from .triplet import HardestTripletLoss

__all__ = ['HardestTripletLoss', 'InfoNCELoss', 'MaskedPixelLoss', 'SDMLoss']
