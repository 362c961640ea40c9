"""Reads CLIP weights from any of their file formats and fits them to a grid."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from torch import Tensor

from sen_toolbox.checkpoint.loading import load_checkpoint_file

# What OpenAI's and open_clip's files hold beside the towers.
EXPECTED_UNUSED = {
    'logit_scale',
    'logit_bias',
    'attn_mask',
    'input_resolution',
    'context_length',
    'vocab_size',
}
POSITION_KEY = 'visual.positional_embedding'


def find_pretrained(pretrained: str, arch: str) -> Path:
    """The file of ``pretrained``: 'openai' (found locally or downloaded) or a path.

    Args:
        pretrained: 'openai' or a path.
        arch: open_clip's name of the model, for 'openai'.

    Raises:
        FileNotFoundError: If there is no such file; says which file to put where.
    """
    if pretrained != 'openai':
        path = Path(pretrained).expanduser()
        if path.is_file():
            return path
        raise FileNotFoundError(
            f'no CLIP weights at {path}; put the file there, set '
            f'model.backbone.pretrained to a file or to "openai", or to None for random weights'
        )
    config = get_pretrained_cfg(arch, 'openai')
    if not config:
        raise FileNotFoundError(f'OpenAI published no weights for {arch!r}; give a file instead')
    # OpenAI's own package keeps its downloads under this name in this folder.
    local = Path('~/.cache/clip').expanduser() / Path(config['url']).name
    if local.is_file():
        return local
    try:
        return Path(download_pretrained(config))
    except Exception as error:  # whatever the downloader raises without a network
        raise FileNotFoundError(
            f'the OpenAI weights of {arch} are not on this machine and could not be downloaded '
            f'({type(error).__name__}). Put {local.name} (from {config["url"]}) at {local}, or set '
            f'model.backbone.pretrained to its path'
        ) from error


def read_clip_state(path: str | Path) -> tuple[dict[str, Tensor], bool]:
    """Reads the tensors of a checkpoint in float32 under open_clip's names.

    Understands safetensors, TorchScript archives (what OpenAI ships), state dicts with or without
    a ``state_dict`` entry, a ``module.`` prefix, and checkpoints of this toolbox, of which the
    backbone is taken. Nothing in the file is executed as Python.

    Returns:
        The tensors, and whether the file is a checkpoint of this toolbox.

    Raises:
        ValueError: If the file is none of these, or truncated.
    """
    path = Path(path)
    state = _read_tensors(path)
    is_ours = any(key.startswith('backbone.') for key in state)
    for prefix in ('module.', 'backbone.'):
        inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        state = inner or state
    if POSITION_KEY not in state:
        raise ValueError(
            f'{path} holds no CLIP towers: {POSITION_KEY!r} is missing among {sorted(state)[:5]}...'
        )
    state = {key: value.float() for key, value in state.items() if key not in EXPECTED_UNUSED}
    return state, is_ours


def _read_tensors(path: Path) -> Mapping[str, Tensor]:
    try:
        content = load_checkpoint_file(str(path), map_location='cpu')
    except ValueError as error:
        # A TorchScript archive holds its own instructions and runs no Python.
        if 'TorchScript' not in str(error):
            raise
        return torch.jit.load(path, map_location='cpu').state_dict()
    content = content.get('state_dict', content) if isinstance(content, Mapping) else {}
    return {k: v for k, v in content.items() if isinstance(v, Tensor)}


def adapt_clip_state(
    state: dict[str, Tensor], grid_size: tuple[int, int], *, square: bool
) -> tuple[dict[str, Tensor], str]:
    """Fits the image position embedding to ``grid_size`` (rows, columns).

    Args:
        state: Tensors under open_clip's names.
        grid_size: The grid of the model.
        square: Whether a square number of patches is a square grid, as in every published CLIP.
            The shape counts: 14 x 14 is resized to 28 x 7, which the release copies as it is. Any
            other grid must be the model's own.

    Returns:
        The state and a phrase that says what was done to the embedding.

    Raises:
        ValueError: If the number of patches fits no such grid.
    """
    position = state[POSITION_KEY]
    num_patches = len(position) - 1
    side = math.isqrt(num_patches)
    if not square or side * side != num_patches:
        if num_patches != math.prod(grid_size):
            raise ValueError(
                f'the position embedding has {num_patches} patches, the model has '
                f'{grid_size[0]} x {grid_size[1]}'
            )
        return state, 'as it is'
    if (side, side) == tuple(grid_size):
        return state, 'as it is'
    resized = resize_position_embedding(position, (side, side), grid_size)
    phrase = f'resized from {side} x {side} to {grid_size[0]} x {grid_size[1]}'
    return {**state, POSITION_KEY: resized}, phrase


def resize_position_embedding(
    embedding: Tensor, source: tuple[int, int], target: tuple[int, int]
) -> Tensor:
    """Resizes a position embedding (1 + rows * columns, D) bilinearly; the class row is kept.

    Bilinear without corner alignment or antialiasing, as the SEN and IRRA releases do (open_clip's
    own is bicubic with antialiasing).

    Args:
        embedding: The embedding, class row first, then the grid row by row.
        source: Its grid as (rows, columns).
        target: The new grid as (rows, columns).
    """
    grid = embedding[1:].T.reshape(1, -1, *source)
    grid = F.interpolate(grid, size=target, mode='bilinear', align_corners=False)
    return torch.cat([embedding[:1], grid[0].flatten(1).T])
