"""Reads one tower of CLIP from any of the file formats and fits it to a grid or a text length."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.checkpoint.known_words import WORD_IDS, spread_words
from sen_toolbox.checkpoint.loading import TorchScriptError, load_checkpoint_file
from sen_toolbox.checkpoint.values import check_dense, kind_of, named_faults, weights_in
from sen_toolbox.models.openai_weights import read_openai_archive
from sen_toolbox.models.pretrained_file import find_pretrained

# What OpenAI's and open_clip's files hold beside the towers.
EXPECTED_UNUSED = {
    'logit_scale',
    'logit_bias',
    'attn_mask',
    'input_resolution',
    'context_length',
    'vocab_size',
}
WORD_KEY = 'token_embedding.weight'
# Before the names of the towers in the checkpoints of IRRA and its relatives.
IRRA_PREFIX = 'base_model.'
# Before the names of the encoders in the checkpoints of this toolbox.
BACKBONE = 'backbone.'
# Before the names of the image tower in open_clip's layout, of the text tower in some of its files.
IMAGE_PREFIX, TEXT_PREFIX = 'visual.', 'text.'


def load_tower(
    encoder: nn.Module,
    part: str,
    pretrained: str,
    arch: str | dict,
    fit: Callable[[dict[str, Tensor], bool], str],
) -> None:
    """Loads one tower of a file into an encoder that has its names.

    Args:
        encoder: Gets the weights; every tensor of it must be there, in its shape.
        part: 'image' or 'text'.
        pretrained: 'openai', 'shipped' or a path.
        arch: open_clip's name of the model.
        fit: Called with the tensors and whether a checkpoint of a retriever holds them; changes
            those whose shape depends on the input, and says how in a phrase.

    Raises:
        FileNotFoundError: If there is no such file; says which file to put where.
        ValueError: If the file is damaged, holds no such tower, or does not match.
    """
    path = find_pretrained(pretrained, arch)
    state, is_ours = read_tower(path, part)
    if WORD_IDS in state:
        state = spread_words(state, WORD_KEY, encoder.state_dict()[WORD_KEY], path)
    # Where tensors are missing, there may be nothing to fit, and they are named.
    is_whole = encoder.state_dict().keys() <= state.keys()
    with named_faults(path):
        phrase = fit(state, is_ours) if is_whole else ''
    check_keys(encoder, state, path)
    encoder.load_state_dict(state)
    print_log(f'{part} weights from {path}: {len(state)} tensors, {phrase}', logger='current')


def read_tower(path: str | Path, part: str) -> tuple[dict[str, Tensor], bool]:
    """Reads the tensors of one tower in float32, under open_clip's names without its prefix.

    Understands safetensors, state dicts with or without a ``state_dict`` or ``model`` entry or a
    ``module.`` prefix, and two layouts of which the towers are taken and the rest is reported:
    checkpoints of this toolbox, and of IRRA and its relatives (SEN, RDE, the person-pretrained
    towers of NAM, HAM and GA-DMS). Nothing in a file is executed; of the TorchScript archives,
    which run when loaded, those are read that OpenAI published.

    Args:
        path: The file.
        part: 'image' or 'text'.

    Returns:
        The tensors, and whether the file is a retriever's: then its grid of patches is one, not
        CLIP's square. Of a model file with the embeddings of some words alone, the text tower has
        their numbers too (``WORD_IDS``).

    Raises:
        ValueError: If the file is none of these, holds no such tower, or is truncated.
    """
    state, meta = read_state(path)
    prefix = next((p for p in (BACKBONE, IRRA_PREFIX) if any(k.startswith(p) for k in state)), '')
    word_ids = state.pop(WORD_IDS, None)
    if unused := sorted({key.split('.')[0] for key in state if not key.startswith(prefix)}):
        print_log(f'{path}: takes {prefix}*, does not use {", ".join(unused)}', logger='current')
    state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    own = f'{part}.' if prefix == BACKBONE else IMAGE_PREFIX if part == 'image' else ''
    state = {k.removeprefix(own): v for k, v in state.items() if k.startswith(own)}
    if own == '':
        state = {
            key.removeprefix(TEXT_PREFIX): value
            for key, value in state.items()
            if not key.startswith(IMAGE_PREFIX)
        }
    state = {
        key: value.float() if kind_of(value) == 'floating' else value
        for key, value in state.items()
        if key not in EXPECTED_UNUSED
    }
    if not state:
        raise ValueError(
            f'{path} holds no {part} tower of CLIP: no key begins with {prefix + own or "a name"!r}'
        )
    if word_ids is not None and part == 'text':
        state[WORD_IDS] = word_ids
    return state, bool(prefix) or 'grid_size' in meta


def read_state(path: str | Path) -> tuple[dict[str, Tensor], Mapping]:
    """The tensors of a file without a ``module.`` prefix, and its ``meta``.

    Raises:
        ValueError: As :func:`read_tower` does.
    """
    path = Path(path)
    try:
        content = load_checkpoint_file(str(path), map_location='cpu')
    except TorchScriptError:
        return read_openai_archive(path), {}
    state = weights_in(content, path, ('state_dict', 'model'))
    state = {k.removeprefix('module.'): v for k, v in state.items() if isinstance(v, Tensor)}
    check_dense(state, path)
    return state, content.get('meta') or {}


def fit_grid(position: Tensor, grid: tuple[int, int], *, square: bool) -> tuple[Tensor, str]:
    """Fits a position embedding (1 + N, D) to a grid (rows, columns).

    Args:
        position: The embedding, class row first.
        grid: The grid of the model.
        square: Whether a square number of patches is a square grid, as in every published CLIP.
            The shape counts: 14 x 14 is resized to 28 x 7, which the release copies as it is. Any
            other grid must be the model's own.

    Returns:
        The embedding and a phrase that says what was done to it.

    Raises:
        ValueError: If the number of patches fits no such grid.
    """
    num_patches = len(position) - 1
    side = math.isqrt(num_patches)
    if not square or side * side != num_patches:
        if num_patches != math.prod(grid):
            raise ValueError(
                f'the position embedding has {num_patches} patches, the model has '
                f'{grid[0]} x {grid[1]}'
            )
        return position, 'as it is'
    if (side, side) == tuple(grid):
        return position, 'as it is'
    resized = resize_position_embedding(position, (side, side), grid)
    return resized, f'resized from {side} x {side} to {grid[0]} x {grid[1]}'


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
