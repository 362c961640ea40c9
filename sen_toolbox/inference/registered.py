"""What a file from elsewhere may name: parts that are registered, and nothing that loads more."""

from collections.abc import Mapping
from typing import Any

from sen_toolbox import registry

# Parts of models, transforms and tokenizers.
REGISTRIES = ('MODELS', 'BACKBONES', 'IMAGE_ENCODERS', 'TEXT_ENCODERS', 'NECKS', 'HEADS', 'LOSSES',
              'TRANSFORMS', 'TOKENIZERS')  # fmt: skip


def require_registered(description: Any) -> None:
    """Looks through a description for types that a registry would import from elsewhere.

    A part may have values with types that it looks up itself among safe ones; it names those
    arguments in ``looks_up``.

    Args:
        description: Plain JSON values.

    Raises:
        ValueError: If a type is not registered, or if the description names a scope, which could
            lead to other registries, or a file with weights.
    """
    _check(description, _registered())


def _check(value: Any, known: Mapping[str, Any]) -> None:
    if isinstance(value, list):
        for item in value:
            _check(item, known)
    if not isinstance(value, Mapping):
        return
    if '_scope_' in value:
        raise ValueError(f'a model file names no scope, this one has {value["_scope_"]!r}')
    if 'type' in value and value['type'] not in known:
        raise ValueError(
            f'unknown part {value["type"]!r}, known are {sorted(known)}; the parts of a project '
            'must be imported before: sen-search --import MODULE, or import it in Python'
        )
    if value.get('pretrained') is not None:
        raise ValueError(f'a model file reads no other file, this one {value["pretrained"]!r}')
    looked_up = getattr(known.get(value.get('type')), 'looks_up', ())
    for key, item in value.items():
        if key not in looked_up:
            _check(item, known)


def _registered() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for name in REGISTRIES:
        found = getattr(registry, name)
        found.import_from_location()
        parts |= found.module_dict
    return parts
