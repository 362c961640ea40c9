"""Descriptions of models by open_clip's names, read without importing it."""

import json
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn

from sen_toolbox.models.blocks import LayerNorm, Transformer
from sen_toolbox.models.quick_gelu import QuickGELU
from sen_toolbox.open_clip_files import open_clip_folder

# 'tiny' trains on a CPU within minutes.
OWN = Path(__file__).with_name('architectures')
# What a file of open_clip describes if it is one of a model.
DESCRIBED = {'embed_dim', 'vision_cfg', 'text_cfg'}


def open_clip_config(arch: str | dict) -> dict:
    """A fresh config with ``embed_dim``, ``vision_cfg`` and ``text_cfg``.

    Args:
        arch: open_clip's name of the model, or its config.

    Raises:
        KeyError: If open_clip has no such model.
    """
    if not isinstance(arch, str):
        return deepcopy(arch)
    # A name may be that of a file from elsewhere: it is looked for among those that are there.
    files = _files()
    if arch in files and DESCRIBED <= (config := _read(files[arch])).keys():
        return config
    known = sorted(name for name, path in files.items() if DESCRIBED <= _read(path).keys())
    raise KeyError(f'open_clip has no model {arch!r}; it has {known}')


def refuse_downloads(arch: str | dict, config: Mapping) -> None:
    """Refuses a description whose building would read a model from elsewhere.

    Args:
        arch: What the user or a file calls it, for the error.
        config: The description.

    Raises:
        ValueError: If it names a tower of a hub or folder, or one that is a download of its own.
    """
    tower = config['vision_cfg'].get('timm_model_name') or ''
    if ':' in tower:
        raise ValueError(
            f'{arch!r} names {tower!r}, which timm reads from elsewhere: name an architecture and '
            'set pretrained to a local file'
        )
    if text := config.get('text_cfg', {}).get('hf_model_name'):
        raise ValueError(f'the text tower of {arch!r} is {text!r}, a download of its own')


def _files() -> dict[str, Path]:
    """The files of all models, by name."""
    package = open_clip_folder()
    theirs = [] if package is None else [package / 'model_configs']
    return {path.stem: path for folder in (*theirs, OWN) for path in folder.glob('*.json')}


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding='utf-8'))


def tower_settings(
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    plain: Mapping[str, Any],
    unread: Collection[str],
) -> tuple[SimpleNamespace, list[str]]:
    """The settings of a tower that is built here, and those of which it would be another one.

    Args:
        given: Part of a config.
        defaults: What is read, with open_clip's defaults.
        plain: What must have one value, and that value.
        unread: What changes nothing here.

    Raises:
        ValueError: If open_clip has no such settings; names them.
    """
    known = {*defaults, *plain, *unread}
    if unknown := sorted(given.keys() - known):
        raise ValueError(f'open_clip has no settings {unknown} of a tower; it has {sorted(known)}')
    odd = [name for name, value in plain.items() if given.get(name, value) != value]
    read = {name: given.get(name, value) for name, value in defaults.items()}
    return SimpleNamespace(**read), odd


def make_norm(settings: SimpleNamespace) -> Callable[[int], LayerNorm]:
    """What makes a norm of so many channels, with the settings' ``norm_kwargs``."""
    return partial(LayerNorm, **(settings.norm_kwargs or {}))


def build_transformer(settings: SimpleNamespace, heads: int, *, quick_gelu: bool) -> Transformer:
    """The blocks of a tower.

    Args:
        settings: With ``width``, ``layers``, ``mlp_ratio``, ``ls_init_value``, ``act_kwargs`` and
            ``norm_kwargs``.
        heads: Number of heads.
        quick_gelu: Whether the activation is OpenAI's approximation.
    """
    return Transformer(
        settings.width,
        settings.layers,
        heads,
        mlp_ratio=settings.mlp_ratio,
        layer_scale=settings.ls_init_value,
        activation=partial(QuickGELU if quick_gelu else nn.GELU, **(settings.act_kwargs or {})),
        norm=make_norm(settings),
    )
