"""Loads a config, applies overrides and refuses what nothing reads; MMEngine invents such keys."""

import inspect
import re
import sys
from copy import copy
from pathlib import Path
from typing import Any, TextIO

import yaml
from mmengine.config import Config
from mmengine.fileio import YamlHandler, register_handler
from mmengine.logging import print_log
from mmengine.runner import Runner

# For configs that do not name it: MMEngine alone would run what a checkpoint says.
from sen_toolbox.checkpoint import registration  # noqa: F401
from sen_toolbox.checks import is_whole_number
from sen_toolbox.messages import one_line, shown
from sen_toolbox.overrides import apply_overrides, check_types, describe_unknown
from sen_toolbox.schedules import fit_warm_up

# Read by MMEngine's Runner, by MMEngine when it reads a file, and to convert official checkpoints.
READ_KEYS = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} | {
    'custom_imports',
    'official',
}
# A resolved config lists here what its '$name' strings stood for: files that MMEngine writes of it
# have the values at their top and nothing that refers to them.
RESOLVED = '_resolved'


@register_handler(['yaml', 'yml'])
class SafeYamlHandler(YamlHandler):
    """MMEngine's reader of YAML, for plain values alone; its own builds whatever a tag names."""

    def load_from_fileobj(self, file: TextIO, **kwargs: Any) -> Any:
        """The content of a file.

        Raises:
            yaml.YAMLError: If it holds a tag of Python, or is not YAML.
        """
        return super().load_from_fileobj(file, **{**kwargs, 'Loader': yaml.SafeLoader})


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """Reads a config file and applies dotted overrides.

    A string ``'$name'`` stands for the top-level value ``name``, of any kind, and is resolved after
    the overrides, so that one ``data_root=...`` reaches every split (MMEngine copies values while
    it reads the file). Every use gets a copy of its own. ``custom_imports`` may name modules of the
    current folder.

    A top-level key must be read by MMEngine's Runner, be referred to by a ``'$name'`` of the file
    or its bases, be ``custom_imports`` or ``official`` (a project's converter of checkpoints), or
    begin with an underscore.

    A warm-up of ``param_scheduler`` takes at most half of the epochs: ``max_epochs`` may be
    overridden alone.

    Args:
        path: The config file: Python, which runs, or JSON or YAML, of which plain values are read.
        overrides: Values by dotted key, as in :func:`sen_toolbox.overrides.apply_overrides`.

    Raises:
        FileNotFoundError: If there is no such file.
        KeyError: If nothing reads a top-level key or an override, if a ``'$name'`` stands for
            nothing, or if nothing is registered as a ``type``; tells what is alike.
        ValueError: If values refer to each other in a circle, ``image_size`` or a length of the
            training is not one, or JSON or YAML cannot be read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no config {path}')
    if '' not in sys.path:
        # A script's path starts at its own folder; custom_imports name modules seen from here.
        sys.path.insert(0, '')
    config = _read(Path(path))
    # The text holds that of the bases too: a value may be referred to in a base alone, in what the
    # file replaces.
    shared = set(re.findall(r'\$(\w+)', config.text))
    known = READ_KEYS | shared
    for key in config:
        # Names with an underscore are a config's own variables.
        if key not in known and key not in config.get(RESOLVED, ()) and not key.startswith('_'):
            raise KeyError(
                f"{path}: {describe_unknown(key, known)} (own values are referred to by '$name' "
                'or start with _)'
            )
    for dotted in overrides or {}:
        first = dotted.split('.')[0]
        if first in config.get(RESOLVED, ()) and first not in known:
            raise KeyError(
                f'override {dotted!r}: {path} was written with its values filled in, and nothing '
                'refers to this one any more; override the places themselves, or the config that '
                'it was made from'
            )
    apply_overrides(config, overrides or {}, known)
    values = dict(config)
    for key in values:
        config[key] = _resolve(values[key], values, key, (key,))
    # Own variables may be pieces of what is built.
    check_types({key: value for key, value in config.items() if not key.startswith('_')})
    _check_numbers(config)
    _fit_warm_up(config, path)
    config[RESOLVED] = sorted({*config.get(RESOLVED, ()), *shared} & set(config))
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        # torch refuses to keep workers where there are none; a debugger wants num_workers=0.
        if config.get(key) and config[key].get('num_workers') == 0:
            config[key].persistent_workers = False
    return config


def _check_numbers(config: Config) -> None:
    """Numbers that would be told late, and not by their names."""
    size = config.get('image_size', (1, 1))
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(map(_counts, size))):
        raise ValueError(f'image_size must be (rows, columns), got {shown(size)}')
    training = config.get('train_cfg')
    for key in ('max_epochs', 'max_iters', 'val_interval'):
        if isinstance(training, dict) and not _counts(training.get(key, 1)):
            raise ValueError(
                f'train_cfg.{key} must be a whole number from 1 up, got {shown(training[key])}'
            )


def _counts(value: Any) -> bool:
    return is_whole_number(value) and value > 0


def _fit_warm_up(config: Config, path: str | Path) -> None:
    """Fits the schedules to the number of epochs, which may have been overridden alone."""
    schedulers = config.get('param_scheduler') or []
    epochs = (config.get('train_cfg') or {}).get('max_epochs')
    # Of another kind they are told by check_types, or are MMEngine's affair.
    if isinstance(epochs, int) and isinstance(schedulers, list):
        if said := fit_warm_up(schedulers, epochs):
            print_log(f'{path}: {said}', logger='current')


def _read(path: Path) -> Config:
    # MMEngine takes for granted that JSON and YAML hold a dict. What Python raises is its own.
    of_content = () if path.suffix == '.py' else (ValueError, TypeError, AttributeError)
    try:
        return Config.fromfile(path, lazy_import=False)
    except (yaml.YAMLError, *of_content) as error:
        raise ValueError(f'{path} is not a readable config: {one_line(error)}') from error


def pretrained_weights(part: Any) -> list[str]:
    """What the encoders of a backbone's config start from, each file or name once.

    >>> pretrained_weights(dict(image=dict(pretrained='a.pth'), text=dict(pretrained=None)))
    ['a.pth']
    """
    found: list[str] = []
    if isinstance(part, dict):
        found += [part['pretrained']] if part.get('pretrained') else []
        for value in part.values():
            found += pretrained_weights(value)
    return list(dict.fromkeys(found))


def start_from(part: Any, name: str) -> int:
    """Sets what the towers of open_clip in a backbone's config start from; returns their number.

    Args:
        part: Config of the backbone, or of a part of it; changed.
        name: A model by name, see :mod:`sen_toolbox.hub`.
    """
    if not isinstance(part, dict):
        return 0
    count = sum(start_from(value, name) for value in part.values())
    if 'arch' in part:
        part['pretrained'] = name
        count += 1
    return count


def _resolve(value: Any, values: dict[str, Any], where: str, within: tuple[str, ...]) -> Any:
    """A copy of ``value`` without references; ``within`` are those that it is resolved for."""
    if isinstance(value, dict):
        resolved = copy(value)
        for key in value:
            resolved[key] = _resolve(value[key], values, f'{where}.{key}', within)
        return resolved
    if isinstance(value, list | tuple):
        items = enumerate(value)
        return type(value)(_resolve(v, values, f'{where}.{i}', within) for i, v in items)
    if not isinstance(value, str) or not value.startswith('$'):
        return value
    name = value[1:]
    if name not in values:
        raise KeyError(f'{where}: {describe_unknown(name, values)}')
    if name in within:
        circle = ' to '.join(repr(f'${n}') for n in (*within[within.index(name) :], name))
        raise ValueError(f'{where}: values refer to each other in a circle, {circle}')
    return _resolve(values[name], values, where, (*within, name))
