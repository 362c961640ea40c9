"""The config in a checkpoint, which MMEngine keeps as text; parsed, never executed."""

import ast
from collections.abc import Mapping
from typing import Any

SHOWN = 8
LONGEST = 60


def read_config_text(text: str) -> dict[str, Any]:
    """The top-level values of a config as MMEngine writes it, without executing anything.

    >>> read_config_text("max_epochs = 3\\nval = dict(split='val', size=(2, 1))")
    {'max_epochs': 3, 'val': {'split': 'val', 'size': (2, 1)}}
    """
    try:
        return dict(map(_assignment, ast.parse(text).body))
    # Written by hand or by another program, or too deep for Python's parser: nothing is known then.
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return {}


def differing_model(config: Mapping[str, Any], meta: Any) -> str:
    """How the model of a config differs from that of a checkpoint, in words, for an error.

    Args:
        config: The config.
        meta: The checkpoint's ``meta``, as it stands in the file.

    Returns:
        Empty if nothing differs or the checkpoint does not tell its config.
    """
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    theirs = read_config_text(text if isinstance(text, str) else '').get('model')
    if not isinstance(theirs, dict):
        return ''
    here, there = _flat(config.get('model', {})), _flat(theirs)
    absent = object()
    found = [
        f'{key}={_shown(here, key)} where the checkpoint has {_shown(there, key)}'
        for key in sorted({*here, *there})
        if here.get(key, absent) != there.get(key, absent)
    ]
    if not found:
        return ''
    rest = f'; and {len(found) - SHOWN} more' if len(found) > SHOWN else ''
    return f'settings that differ from its own config: {"; ".join(found[:SHOWN])}{rest}'


def _flat(value: Any, where: str = 'model') -> dict[str, Any]:
    """Values by dotted key; lists and empty dicts are values."""
    if isinstance(value, Mapping) and value:
        items = value.items()
        return {k: v for key, part in items for k, v in _flat(part, f'{where}.{key}').items()}
    # A list is written as a tuple here and there.
    return {where: list(value) if isinstance(value, tuple) else value}


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return 'nothing'
    text = repr(values[key])
    return text if len(text) <= LONGEST else f'{text[:LONGEST]}...'


def _assignment(line: ast.stmt) -> tuple[str, Any]:
    if not isinstance(line, ast.Assign) or not isinstance(line.targets[0], ast.Name):
        raise ValueError('a line gives no name a value')
    return line.targets[0].id, _literal(line.value)


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if getattr(node.func, 'id', None) != 'dict' or node.args:
            raise ValueError(f'{ast.unparse(node)} is not a value')
        return {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        # A dict that is unpacked in another has no key: then there are too few.
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_literal, node.values), strict=True))
    return ast.literal_eval(node)
