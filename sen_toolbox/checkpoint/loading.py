"""Loads checkpoints with ``weights_only=True``; replaces MMEngine's loader of local files."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import load_file

STATISTICS = ('min', 'max', 'mean', 'current', 'statistics')


def _history_statistic(owner: Any, name: str) -> Any:
    # A HistoryBuffer pickles its statistics methods through the builtin getattr. Allowing getattr
    # would let a file reach any attribute, so this stand-in reaches these methods alone.
    if owner is HistoryBuffer and name in STATISTICS:
        return getattr(owner, name)
    raise ValueError(f'a checkpoint may not read the attribute {name!r} of {owner!r}')


# What MMEngine's own checkpoints hold beside tensors and plain containers.
MMENGINE_TYPES = [
    HistoryBuffer,
    (_history_statistic, 'builtins.getattr'),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32', 'bool')),
    (np.ndarray([]).__reduce__()[0], 'numpy._core.multiarray._reconstruct'),
    (np.ndarray([]).__reduce__()[0], 'numpy.core.multiarray._reconstruct'),
    (np.float64(0).__reduce__()[0], 'numpy._core.multiarray.scalar'),
    (np.float64(0).__reduce__()[0], 'numpy.core.multiarray.scalar'),
]


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_checkpoint_file(filename: str, map_location: Any = None) -> dict:
    """Reads a checkpoint file without executing code from it.

    Args:
        filename: A file written by ``torch.save`` or a ``.safetensors`` file.
        map_location: As in ``torch.load``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, or holds types beyond tensors and MMEngine's logs.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}')
    try:
        if path.suffix == '.safetensors':
            return dict(state_dict=load_file(path))
        with torch.serialization.safe_globals(MMENGINE_TYPES):
            return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # both libraries raise many types for a damaged or foreign file
        reason = str(error) or type(error).__name__
        raise ValueError(
            f'{path} is no readable checkpoint (truncated, or it holds other Python types): '
            f'{reason.splitlines()[0]}'
        ) from error
