"""Hooks that MMEngine lacks."""

from .consensus_division import ConsensusDivisionHook
from .dataset_report import DatasetReportHook
from .finite_loss import FiniteLossHook
from .provenance import ProvenanceHook
from .ramp import RampHook
from .safe_checkpoint import SafeCheckpointHook
from .strict_load import StrictLoadHook

__all__ = [
    'ConsensusDivisionHook',
    'DatasetReportHook',
    'FiniteLossHook',
    'ProvenanceHook',
    'RampHook',
    'SafeCheckpointHook',
    'StrictLoadHook',
]
