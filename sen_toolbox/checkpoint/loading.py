"""Loads checkpoints with ``weights_only=True``; replaces all of MMEngine's loaders."""

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import safe_open
from safetensors.torch import load_file

STATISTICS = ('min', 'max', 'mean', 'current', 'statistics')


def _history_statistic(owner: Any, name: str) -> Any:
    # A HistoryBuffer pickles its statistics methods through the builtin getattr. Allowing getattr
    # would let a file reach any attribute, so this stand-in reaches these methods alone.
    if owner is HistoryBuffer and name in STATISTICS:
        return getattr(owner, name)
    raise ValueError(f'a checkpoint may not read the attribute {name!r} of {owner!r}')


# What official checkpoints hold beside tensors and plain containers: arguments, and a config as a
# dict of a package that need not be here.
OFFICIAL_TYPES = [argparse.Namespace, (OrderedDict, 'easydict.EasyDict')]
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
        ValueError: If the file is truncated, or holds types beyond tensors, MMEngine's logs and the
            settings in official checkpoints.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}')
    try:
        if path.suffix == '.safetensors':
            with safe_open(path, framework='pt') as file:
                meta = file.metadata()
            return dict(state_dict=load_file(path), **(dict(meta=meta) if meta else {}))
        with torch.serialization.safe_globals([*MMENGINE_TYPES, *OFFICIAL_TYPES]):
            return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # both libraries raise many types for a damaged or foreign file
        raise ValueError(
            f'{path} is no readable checkpoint (truncated, or it holds other Python types): '
            f'{_reason(error)}'
        ) from error


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    # torch advises to turn the safety off; what is wrong stands between its pieces of advice.
    text = text.partition('WeightsUnpickler error:')[2].strip() or text
    return text.splitlines()[0].partition(' Please use')[0]


# MMEngine would unpickle whatever these send.
@CheckpointLoader.register_scheme(
    prefixes=[
        'http://',
        'https://',
        'pavi://',
        r'(\S+\:)?s3://',
        r'(\S+\:)?petrel://',
        'modelzoo://',
        'torchvision://',
        'open-mmlab://',
        'openmmlab://',
        'mmcls://',
    ],
    force=True,
)
def _refuse_remote_file(filename: str, map_location: Any = None) -> dict:
    raise ValueError(
        f'{filename} is not on this machine: download the file and give its path; checkpoints are '
        f'read from local files only'
    )
