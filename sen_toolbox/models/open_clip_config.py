"""Descriptions of models by open_clip's names, and open_clip's modules from them."""

import inspect
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from open_clip import add_model_config, get_model_config, list_models
from open_clip.transformer import LayerNorm, QuickGELU
from torch import nn

T = TypeVar('T', bound=nn.Module)

# 'tiny' trains on a CPU within minutes.
add_model_config(Path(__file__).with_name('architectures'))


def open_clip_config(arch: str | dict) -> dict:
    """A fresh config with ``embed_dim``, ``vision_cfg`` and ``text_cfg``.

    Args:
        arch: open_clip's name of the model, or its config.

    Raises:
        KeyError: If open_clip has no such model.
    """
    if not isinstance(arch, str):
        return deepcopy(arch)
    # open_clip itself would take 'hf-hub:' and 'local-dir:' too, and read a model from elsewhere.
    if arch not in list_models():
        raise KeyError(f'open_clip has no model {arch!r}; it has {list_models()}')
    return get_model_config(arch)


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


def build_transformer(
    kind: type[T], settings: Any, *, embed_dim: int, quick_gelu: bool, **own: object
) -> T:
    """One of open_clip's transformers from its settings, as open_clip builds it.

    Args:
        kind: Class of the transformer.
        settings: An instance of ``CLIPVisionCfg`` or ``CLIPTextCfg``.
        embed_dim: Width of the joint space.
        quick_gelu: Whether the activation is OpenAI's approximation.
        **own: Arguments that have another name in the settings.
    """
    accepted = inspect.signature(kind).parameters
    arguments = {name: value for name, value in vars(settings).items() if name in accepted}
    activation = QuickGELU if quick_gelu else nn.GELU
    arguments['act_layer'] = partial(activation, **(settings.act_kwargs or {}))
    arguments['norm_layer'] = partial(LayerNorm, **(settings.norm_kwargs or {}))
    return kind(**arguments, output_dim=embed_dim, **own)
