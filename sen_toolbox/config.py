"""Loads a config, applies overrides and refuses what nothing reads; MMEngine invents such keys."""

import inspect
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

# Top-level names that configs share by '$name'.
SHARED_VALUES = {
    'batch_size',
    'context_length',
    'crop_padding',
    'data_root',
    'dataset_type',
    'image_cache',
    'image_size',
    'max_epochs',
    'noun_masking',
    'num_classes',
    'num_workers',
    'pin_memory',
    'tokenizer',
}
KNOWN_KEYS = (
    SHARED_VALUES
    | set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
    | {'custom_imports'}
)


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """Reads a config file and applies dotted overrides.

    A string ``'$name'`` stands for the top-level value ``name`` and is resolved after the
    overrides, so that one ``data_root=...`` reaches every split (MMEngine copies values while it
    reads the file). ``custom_imports`` may name modules of the current folder.

    Args:
        path: The config file.
        overrides: Values by dotted key, as ``mmengine.config.DictAction`` parses them. Numbers
            index lists.

    Raises:
        FileNotFoundError: If there is no such file.
        KeyError: If the file has a top-level key, or an override names a key, that does not exist;
            lists those alike.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no config {path}')
    if '' not in sys.path:
        # A script's path starts at its own folder; custom_imports name modules seen from here.
        sys.path.insert(0, '')
    config = Config.fromfile(path, lazy_import=False)
    for key in config:
        # Names with an underscore are a config's own variables.
        if key not in KNOWN_KEYS and not key.startswith('_'):
            raise KeyError(f'{path}: {_unknown(key, KNOWN_KEYS)} (own variables start with _)')
    for key, value in (overrides or {}).items():
        _override(config, key, value)
    shared = {key: config[key] for key in SHARED_VALUES if key in config}
    for key in config:
        config[key] = _resolve(config[key], shared, key)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        # torch refuses to keep workers where there are none; a debugger wants num_workers=0.
        if config.get(key) and config[key].get('num_workers') == 0:
            config[key].persistent_workers = False
    return config


def _override(config: Config, dotted: str, value: Any) -> None:
    *parents, last = dotted.split('.')
    node = config
    for part in parents:
        node = node[_existing_key(node, part, dotted)]
    node[_existing_key(node, last, dotted)] = value


def _existing_key(node: Any, part: str, dotted: str) -> str | int:
    if isinstance(node, list | tuple):
        if part.isdigit() and int(part) < len(node):
            return int(part)
        choices = [str(index) for index in range(len(node))]
    else:
        choices = list(node) if isinstance(node, dict | Config) else []
        if part in choices:
            return part
    raise KeyError(f'override {dotted!r}: {_unknown(part, choices)}')


def _unknown(key: str, choices: Any) -> str:
    alike = get_close_matches(key, choices, n=3)
    hint = f'did you mean {" or ".join(alike)}?' if alike else f'known are {sorted(choices)}'
    return f'unknown key {key!r}; {hint}'


def _resolve(value: Any, shared: dict[str, Any], where: str) -> Any:
    if isinstance(value, dict):
        for key in value:
            value[key] = _resolve(value[key], shared, f'{where}.{key}')
        return value
    if isinstance(value, list | tuple):
        return type(value)(_resolve(v, shared, f'{where}.{i}') for i, v in enumerate(value))
    if isinstance(value, str) and value.startswith('$'):
        if value[1:] not in shared:
            raise KeyError(f'{where}: {_unknown(value[1:], shared)}')
        return shared[value[1:]]
    return value
