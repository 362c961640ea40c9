"""Compares the keys, shapes and values of a checkpoint with a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sen_toolbox.checkpoint.values import kind_of, listed, not_dense


def check_keys(model: nn.Module, state: Mapping[str, Any], source: str | Path) -> None:
    """Checks that ``state`` holds exactly the tensors of ``model``, with finite numbers.

    Args:
        model: The model that is to load the state.
        state: Tensors by name.
        source: Named in the error.

    Raises:
        ValueError: Lists missing and unexpected keys, different shapes, and values that are not
            dense tensors of the model's kind of numbers (floating, integer, bool), or not finite.
    """
    check_fit(model, state, source)
    own = model.state_dict()
    bad = [key for key in own if not state[key].isfinite().all()]
    if bad:
        raise ValueError(
            f'{source} holds numbers that are not finite (NaN or infinite): {listed(bad)}'
        )


def check_fit(model: nn.Module, state: Mapping[str, Any], source: str | Path) -> None:
    """Like :func:`check_keys`, but numbers may be NaN or infinite."""
    own = model.state_dict()
    problems = [
        *(f'missing {key}' for key in own if key not in state),
        *(f'unexpected {key}' for key in state if key not in own),
        *(
            f'{key} {why}'
            for key in own
            if key in state and (why := _difference(own[key], state[key]))
        ),
    ]
    if problems:
        raise ValueError(f'{source} does not fit the model: {listed(problems)}')


def _difference(own: Tensor, given: Any) -> str | None:
    if why := not_dense(given):
        return why
    if given.shape != own.shape:
        return f'has shape {tuple(given.shape)}, expected {tuple(own.shape)}'
    if kind_of(given) != kind_of(own):
        return f'holds {given.dtype}, expected {kind_of(own)} numbers as {own.dtype}'
    return None
