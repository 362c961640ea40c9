"""Reads CLIP weights from any of their file formats and fits them to a grid and a text length."""

import hashlib
import io
import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from open_clip.pretrained import (
    download_pretrained,
    get_pretrained_cfg,
    get_pretrained_url,
    list_pretrained_models_by_tag,
)
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
# Before the names of the towers: in this toolbox's checkpoints, in those of IRRA and its relatives.
TOWER_PREFIXES = ('backbone.', 'base_model.')
# Keys that only the metadata of our exported towers and of our model files have.
OUR_META = {'grid_size', 'sen_toolbox'}
POSITION_KEY = 'visual.positional_embedding'
TEXT_POSITION_KEY = 'positional_embedding'


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

    Understands safetensors, state dicts with or without a ``state_dict`` or ``model`` entry or a
    ``module.`` prefix, and two layouts of which the towers are taken and the rest is reported:
    checkpoints of this toolbox, and of IRRA and its relatives (SEN, RDE, the person-pretrained
    towers of NAM, HAM and GA-DMS). Nothing in a file is executed; of the TorchScript archives,
    which run when loaded, those are read that OpenAI published.

    Returns:
        The tensors, and whether their grid of patches is a retriever's, not CLIP's square one.

    Raises:
        ValueError: If the file is none of these, or truncated.
    """
    path = Path(path)
    state, meta = _read_file(path)
    state = {key.removeprefix('module.'): value for key, value in state.items()}
    prefix = next((p for p in TOWER_PREFIXES if any(key.startswith(p) for key in state)), '')
    is_ours = bool(prefix) or not OUR_META.isdisjoint(meta)
    if unused := sorted({key.split('.')[0] for key in state if not key.startswith(prefix)}):
        print_log(f'{path}: takes {prefix}*, does not use {", ".join(unused)}', logger='current')
    state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if POSITION_KEY not in state:
        raise ValueError(
            f'{path} holds no CLIP towers: {POSITION_KEY!r} is missing among {sorted(state)[:5]}...'
        )
    state = {key: value.float() for key, value in state.items() if key not in EXPECTED_UNUSED}
    return state, is_ours


def read_tensors(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a weight file of any of the known formats, by name.

    Raises:
        ValueError: If it cannot be read without running code in it.
    """
    return _read_file(path)[0]


def _read_file(path: Path) -> tuple[dict[str, Tensor], Mapping]:
    """The tensors of a file, and its ``meta``."""
    try:
        content = load_checkpoint_file(str(path), map_location='cpu')
    except ValueError as error:
        if 'TorchScript' not in str(error.__cause__):
            raise
        return _read_openai_archive(path), {}
    content = content if isinstance(content, Mapping) else {}
    state = content.get('state_dict', content.get('model', content))
    return {k: v for k, v in state.items() if isinstance(v, Tensor)}, content.get('meta') or {}


def _read_openai_archive(path: Path) -> dict[str, Tensor]:
    # Loading a TorchScript archive runs instructions in it, which can write files.
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() not in _openai_hashes():
        raise ValueError(
            f'{path} is a TorchScript archive, which runs code when loaded, and none that OpenAI '
            f'published; save the state_dict of its model with torch.save instead'
        )
    return torch.jit.load(io.BytesIO(data), map_location='cpu').state_dict()


def _openai_hashes() -> set[str]:
    # OpenAI's addresses hold the SHA-256 of the file: .../models/<hash>/ViT-B-16.pt.
    names = list_pretrained_models_by_tag('openai')
    return {get_pretrained_url(name, 'openai').split('/')[-2] for name in names}


def adapt_clip_state(
    state: dict[str, Tensor],
    grid_size: tuple[int, int],
    *,
    square: bool,
    context_length: int | None = None,
) -> tuple[dict[str, Tensor], str]:
    """Fits the position embeddings to ``grid_size`` (rows, columns) and ``context_length``.

    Args:
        state: Tensors under open_clip's names.
        grid_size: The grid of the model.
        square: Whether a square number of patches is a square grid, as in every published CLIP.
            The shape counts: 14 x 14 is resized to 28 x 7, which the release copies as it is. Any
            other grid must be the model's own.
        context_length: Tokens of a caption; None leaves the text's positions as they are.

    Returns:
        The state and a phrase that says what was done to the embeddings.

    Raises:
        ValueError: If the number of patches fits no such grid.
    """
    state, phrase = _fit_grid(state, grid_size, square=square)
    text = state.get(TEXT_POSITION_KEY)
    if text is None or context_length in (None, len(text)):
        return state, phrase
    resized = resize_text_position_embedding(text, context_length)
    phrase += f', that of the text resized from {len(text)} to {context_length} tokens'
    return {**state, TEXT_POSITION_KEY: resized}, phrase


def _fit_grid(
    state: dict[str, Tensor], grid_size: tuple[int, int], *, square: bool
) -> tuple[dict[str, Tensor], str]:
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


def resize_text_position_embedding(embedding: Tensor, length: int) -> Tensor:
    """Resizes a text position embedding (L, D) linearly to (length, D).

    CFAM and ICL read captions of 168 tokens so. ICL's code asks for ``length`` columns too, so its
    result fits no model and the embedding there stays random; this follows the paper.

    Args:
        embedding: One row for each token position.
        length: Rows of the result. The first and the last row keep their values when it grows.
    """
    rows = embedding.T[None]
    return F.interpolate(rows, size=length, mode='linear', align_corners=False)[0].T
