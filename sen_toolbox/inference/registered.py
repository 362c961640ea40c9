"""What a file from elsewhere may name: parts that are registered, and nothing that loads more.

Some arguments of parts name files. A part lists in ``reads_files`` those that it reads while it is
built, and in ``weight_files`` those that ``load_weights`` reads, if these are not ``pretrained``
alone; what a part looks up by itself among safe values it lists in ``looks_up``.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sen_toolbox import registry

# Parts of models, transforms and tokenizers.
REGISTRIES = ('MODELS', 'BACKBONES', 'IMAGE_ENCODERS', 'TEXT_ENCODERS', 'NECKS', 'HEADS', 'LOSSES',
              'RESTORATION_TARGETS', 'TRANSFORMS', 'TOKENIZERS')  # fmt: skip
PLAIN = (str, int, float, bool, type(None))
# What load_weights of every encoder reads.
WEIGHT_FILES = frozenset({'pretrained'})


def require_registered(description: Any, *, files: Collection[str] = ()) -> None:
    """Checks that nothing in a description leads a registry to import, or a part to read a file.

    Args:
        description: Configs of parts, which a file holds.
        files: Files that the user himself has named, which parts may read.

    Raises:
        ValueError: If it holds other values than plain ones (texts, numbers, lists, dicts with
            texts as keys), a type that is not registered, a scope, which could lead to other
            registries, or the name of a file.
    """
    _require_plain(description)
    _check(description, frozenset({None, *files}))


def without_weight_files(description: Any) -> Any:
    """A copy of configs of parts that names no weights to start from."""

    def copied(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(copied(item) for item in value)
        if not isinstance(value, Mapping):
            return value
        files = _weight_files(_part(value))
        return {key: None if key in files else copied(item) for key, item in value.items()}

    return copied(description)


def registered_parts() -> dict[str, Any]:
    """Every part that a file may name, by its name; imports all of them."""
    parts: dict[str, Any] = {}
    for found in _registries():
        found.import_from_location()
        parts |= found.module_dict
    return parts


def _registries() -> list[registry.PartRegistry]:
    return [getattr(registry, name) for name in REGISTRIES]


def _require_plain(value: Any) -> None:
    if isinstance(value, list | tuple):
        for item in value:
            _require_plain(item)
    elif type(value) is dict:
        if others := [key for key in value if not isinstance(key, str)]:
            raise ValueError(f'a description has texts as keys, this one has {others[0]!r}')
        for item in value.values():
            _require_plain(item)
    elif type(value) not in PLAIN:
        raise ValueError(f'a description has plain values, this one a {type(value).__name__}')


def _check(value: Any, files: Collection[str | None]) -> None:
    for config in _dicts(value):
        if '_scope_' in config:
            raise ValueError(f'a model file names no scope, this one has {config["_scope_"]!r}')
        part = _part(config)
        if 'type' in config and part is None:
            raise ValueError(
                f'unknown part {config["type"]!r}; the parts of a project must be imported before: '
                f'sen-search --import MODULE, or import it in Python; known are '
                f'{sorted(registered_parts())}'
            )
        for key in _weight_files(part) | getattr(part, 'reads_files', frozenset()):
            given = config.get(key)
            if isinstance(given, list | dict) or given not in files:
                raise ValueError(f'a model file reads no other file, this one {given!r} ({key})')


def _dicts(value: Any) -> Iterator[dict]:
    """Every dict in which a registry may look, the outer ones first."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _dicts(item)
    elif isinstance(value, dict):
        yield value
        looked_up = getattr(_part(value), 'looks_up', ())
        for key, item in value.items():
            if key not in looked_up:
                yield from _dicts(item)


def _part(config: Mapping) -> Any:
    kind = config.get('type')
    if not isinstance(kind, str):
        return None
    found = (known.find(kind) for known in _registries())
    return next((part for part in found if part is not None), None)


def _weight_files(part: Any) -> frozenset[str]:
    return WEIGHT_FILES | getattr(part, 'weight_files', frozenset())
