"""Has MMEngine's Runner read and write checkpoints by the functions of this package.

Configs name this module in ``custom_imports``; it replaces all of MMEngine's loaders.
"""

from typing import Any

from mmengine.fileio import register_backend
from mmengine.runner.checkpoint import CheckpointLoader

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.saving import AtomicLocalBackend

# MMEngine would unpickle whatever these send.
REMOTE = [
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
]


def _refuse_remote_file(filename: str, map_location: Any = None) -> dict:
    raise ValueError(
        f'{filename} is not on this machine: download the file and give its path; checkpoints are '
        f'read from local files only'
    )


CheckpointLoader.register_scheme(prefixes='', loader=load_checkpoint_file, force=True)
CheckpointLoader.register_scheme(prefixes=REMOTE, loader=_refuse_remote_file, force=True)
register_backend('local', AtomicLocalBackend, force=True, prefixes='')
