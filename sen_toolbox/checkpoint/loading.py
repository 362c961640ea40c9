"""Loads checkpoints with ``weights_only=True``."""

import argparse
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from sen_toolbox.checkpoint.storages import check_storages
from sen_toolbox.checkpoint.tensor_file import read_tensors
from sen_toolbox.checkpoint.values import check_dense, check_names
from sen_toolbox.messages import one_line

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


# By this record torch recognises an archive that it would run.
TORCHSCRIPT_RECORD = 'constants.pkl'
# A bit among the attributes of a record.
FOLDER = 0x10
# Entries that hold weights of a model here.
WEIGHTS = ('state_dict', 'ema_state_dict')


class TorchScriptError(ValueError):
    """The file is a TorchScript archive, which would run when it is loaded."""


def load_checkpoint_file(filename: str, map_location: Any = None) -> dict:
    """Reads a checkpoint file without executing code from it, and checks that it is whole.

    A zip archive, as ``torch.save`` writes it, tells the CRC of each of its records, a
    ``.safetensors`` file of this toolbox its digest. Whatever is under ``state_dict`` consists of
    dense tensors by name. ``meta.config``, which MMEngine would run as Python, is left out.

    Args:
        filename: A file written by ``torch.save`` or a ``.safetensors`` file.
        map_location: As in ``torch.load``.

    Raises:
        FileNotFoundError: If there is no such file.
        TorchScriptError: If it is a TorchScript archive; a ValueError.
        ValueError: If the file is truncated or damaged, or holds types beyond tensors, MMEngine's
            logs and the settings in official checkpoints, or something else than weights.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}')
    try:
        content = _read(path, map_location)
    except TorchScriptError:
        raise
    except Exception as error:  # both libraries raise many types for a damaged or foreign file
        raise ValueError(
            f'{path} is not a readable checkpoint (truncated, damaged, or it holds other Python '
            f'types): {_reason(error)}'
        ) from error
    check_names(content, path)
    for entry in WEIGHTS:
        if entry in content:
            check_dense(content[entry], f'{entry} of {path}')
    if 'meta' in content:
        check_names(content['meta'], f'meta of {path}')
        content['meta'].pop('config', None)
    return content


def _read(path: Path, map_location: Any) -> Any:
    if path.suffix == '.safetensors':
        state, meta = read_tensors(path)
        return dict(state_dict=state, **(dict(meta=meta) if meta else {}))
    # What torch wrote before version 1.6 is not an archive and has no sums.
    is_archive = zipfile.is_zipfile(path)
    if is_archive:
        _check_archive(path)
    with torch.serialization.safe_globals([*MMENGINE_TYPES, *OFFICIAL_TYPES]):
        content = torch.load(path, map_location=map_location, weights_only=True)
    if is_archive:
        with zipfile.ZipFile(path) as archive:
            check_storages(archive)
    return content


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        if any(name.rpartition('/')[2] == TORCHSCRIPT_RECORD for name in names):
            raise TorchScriptError(
                f'{path} is a TorchScript archive, which runs code when it is loaded: save the '
                'state_dict of its model with torch.save instead'
            )
        # Of a folder torch reads nothing, and leaves in the tensor what was in the memory. Of two
        # records of one name Python compares one, and torch reads one.
        if folders := [i.filename for i in file.infolist() if i.external_attr & FOLDER]:
            raise ValueError(f'its record {folders[0]} is called a folder')
        if len(set(names)) < len(names):
            raise ValueError('it has two records of one name')
        # torch itself does not compare them.
        if damaged := file.testzip():
            raise ValueError(f'its record {damaged} has another CRC than it was written with')


def _reason(error: Exception) -> str:
    # torch advises to turn the safety off, around what its own unpickler said. That one is the
    # error behind it, and its advice is to allow the type.
    said = error.__context__ if isinstance(error.__context__, pickle.UnpicklingError) else error
    text = (str(said) or type(said).__name__).partition(' Please use')[0]
    if 'weights_only' in text:
        text = 'it holds a type that is not among those that are read'
    return one_line(text.splitlines()[0])
