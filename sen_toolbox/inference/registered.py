"""What a file from elsewhere may name: parts that are registered, and nothing that loads more."""

from collections.abc import Mapping
from typing import Any

from sen_toolbox import registry

# Parts of models, transforms and tokenizers.
REGISTRIES = ('MODELS', 'BACKBONES', 'IMAGE_ENCODERS', 'TEXT_ENCODERS', 'NECKS', 'HEADS', 'LOSSES',
              'TRANSFORMS', 'TOKENIZERS')  # fmt: skip


def require_registered(value: Any) -> None:
    """Looks through a description for types that a registry would import from elsewhere.

    Args:
        value: Plain JSON values.

    Raises:
        ValueError: If a type is not registered, or if the description names a scope, which could
            lead to other registries, or a file with weights.
    """
    if isinstance(value, list):
        for item in value:
            require_registered(item)
    if not isinstance(value, Mapping):
        return
    if '_scope_' in value:
        raise ValueError(f'a model file names no scope, this one has {value["_scope_"]!r}')
    if 'type' in value and value['type'] not in (known := _registered()):
        raise ValueError(
            f'unknown part {value["type"]!r}, known are {sorted(known)}; the parts of a project '
            'are imported before, by sen-search --import MODULE or in Python'
        )
    if value.get('pretrained') is not None:
        raise ValueError(f'a model file reads no other file, this one {value["pretrained"]!r}')
    for item in value.values():
        require_registered(item)


def _registered() -> set[str]:
    names: set[str] = set()
    for name in REGISTRIES:
        found = getattr(registry, name)
        found.import_from_location()
        names |= set(found.module_dict)
    return names
