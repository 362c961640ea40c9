"""Names of a package whose modules are imported at the first use of a name."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package (PEP 562), for what only some of its users need.

    Args:
        package: Its ``__name__``.
        homes: The module that has a name, below the package.

    >>> lazy_names('json', {'JSONDecoder': 'decoder'})('JSONDecoder')
    <class 'json.decoder.JSONDecoder'>
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        return getattr(import_module(f'{package}.{homes[name]}'), name)

    return get
