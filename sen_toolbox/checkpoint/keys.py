"""Compares the keys and shapes of a checkpoint with a model."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

SHOWN = 8


def check_keys(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Checks that ``state`` holds exactly the tensors of ``model``.

    Args:
        model: The model that is to load the state.
        state: Tensors by name.
        source: Named in the error.

    Raises:
        ValueError: Lists missing and unexpected keys and different shapes.
    """
    own = model.state_dict()
    problems = [
        *(f'missing {key}' for key in own if key not in state),
        *(f'unexpected {key}' for key in state if key not in own),
        *(
            f'{key} has shape {tuple(state[key].shape)}, expected {tuple(own[key].shape)}'
            for key in own
            if key in state and state[key].shape != own[key].shape
        ),
    ]
    if problems:
        rest = f'; and {len(problems) - SHOWN} more' if len(problems) > SHOWN else ''
        raise ValueError(f'{source} does not fit the model: {"; ".join(problems[:SHOWN])}{rest}')
