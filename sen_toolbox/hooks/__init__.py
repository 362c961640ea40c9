"""Hooks that MMEngine lacks."""

# For a Runner of a config that was not read by load_config and does not name it.
from sen_toolbox.checkpoint import registration  # noqa: F401

from .boards import IllustrationBoardHook, RetrievalBoardHook
from .consensus_division import ConsensusDivisionHook
from .dataset_report import DatasetReportHook
from .deferred_info import DeferredInfoHook
from .fade import FadeHook
from .finite_loss import FiniteLossHook
from .hard_batches import HardBatchHook
from .provenance import ProvenanceHook
from .ramp import RampHook
from .rate_check import RateCheckHook
from .safe_checkpoint import SafeCheckpointHook
from .same_data import SameDataHook
from .stop import StopHook, StoppedBySignal
from .strict_load import StrictLoadHook
from .switch import SwitchHook

__all__ = [
    'ConsensusDivisionHook',
    'DatasetReportHook',
    'DeferredInfoHook',
    'FadeHook',
    'FiniteLossHook',
    'HardBatchHook',
    'ProvenanceHook',
    'RampHook',
    'RateCheckHook',
    'IllustrationBoardHook',
    'RetrievalBoardHook',
    'SafeCheckpointHook',
    'SameDataHook',
    'StopHook',
    'StoppedBySignal',
    'StrictLoadHook',
    'SwitchHook',
]
