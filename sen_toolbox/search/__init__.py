"""What uses a trained model: searching a gallery of people by words or pictures.

Names are imported at their first use: ``sen-search --help`` needs no torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    'PersonSearch': 'person_search',
    'Result': 'person_search',
    'IndexReport': 'indexing',
}
__all__ = ['IndexReport', 'PersonSearch', 'Result']  # noqa: F822


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)
