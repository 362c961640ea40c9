"""The ways into the toolbox, by name; each is imported when it is looked at."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from .run import Target

NAMES = (
    'images', 'checkpoints', 'model_files', 'onnx_files', 'index_folders', 'caches', 'annotations',
    'page_requests',
)  # fmt: skip


def _class_of(name: str) -> Callable[[Path], Target]:
    module = import_module(f'.{name}', __package__)
    return getattr(module, ''.join(word.capitalize() for word in name.split('_')))


TARGETS = {name: partial(_class_of, name) for name in NAMES}
