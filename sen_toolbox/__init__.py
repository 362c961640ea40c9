"""Text-to-image person retrieval: registered parts that configs assemble into methods."""

from importlib import import_module
from typing import Any

__version__ = '0.2.0'

# Where each public name is, imported at its first use: `import sen_toolbox` itself costs nothing.
_HOMES = {
    'get_config': 'sen_toolbox.shipped_configs',
    'get_model': 'sen_toolbox.shipped_models',
    'list_models': 'sen_toolbox.shipped_configs',
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
