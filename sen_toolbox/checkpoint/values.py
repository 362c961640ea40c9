"""What the weights of a checkpoint must be before anything reads them: dense tensors by name."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sen_toolbox.messages import one_line, shown

SHOWN = 8
# Numbers that stand for one another; any other type (complex, quantised, 8-bit floats) is foreign.
KINDS = {
    'floating': (torch.float16, torch.bfloat16, torch.float32, torch.float64),
    'integer': (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    'bool': (torch.bool,),
}


def weights_in(
    content: Mapping[str, Any], source: str | Path, entries: Sequence[str] = ('state_dict',)
) -> Mapping[str, Any]:
    """The weights of a checkpoint: under the first of these entries that it has, or its own.

    Args:
        content: A checkpoint.
        source: Named in the error.
        entries: Where the weights may be.

    Raises:
        ValueError: If the entry is not a dict whose keys are names.
    """
    entry = next((name for name in entries if name in content), None)
    state = content if entry is None else content[entry]
    check_names(state, source if entry is None else f'{entry} of {source}')
    return state


def check_names(content: Any, source: str | Path) -> None:
    """Checks that something from a file is a dict whose keys are names.

    Raises:
        ValueError: If it is not; names the source.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f'{source} is a {type(content).__name__}, expected a dict')
    if others := [key for key in content if not isinstance(key, str)]:
        raise ValueError(f'{source} has keys that are not names, the first is {shown(others[0])}')


def check_dense(state: Any, source: str | Path) -> None:
    """Checks that something from a file is a dict of dense tensors with values, by name.

    Raises:
        ValueError: If it is not; names the source and what is there instead.
    """
    check_names(state, source)
    problems = [f'{key} {why}' for key, value in state.items() if (why := not_dense(value))]
    if problems:
        raise ValueError(f'{source} does not hold weights: {listed(problems)}')


def not_dense(value: Any) -> str | None:
    """Why a value is not a dense tensor with values, None if it is one."""
    if not isinstance(value, Tensor):
        return f'is a {type(value).__name__}, not a tensor'
    if value.device.type == 'meta':
        return 'has a shape and no values (device meta)'
    if value.layout != torch.strided or value.is_nested or value.is_quantized:
        return f'is not a dense tensor ({value.dtype}, {value.layout})'
    # A copy of it, in another precision, would take memory that the file never had.
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        return f'has a shape of more numbers than there are, {tuple(value.shape)}'
    return None


@contextmanager
def named_faults(path: str | Path) -> Iterator[None]:
    """Names the file whose tensors the block resizes or renames, whatever they make it raise."""
    try:
        yield
    except (ValueError, TypeError, LookupError, RuntimeError, AttributeError) as error:
        raise ValueError(f'{path} does not fit the model: {one_line(error)}') from error


def kind_of(tensor: Tensor) -> str | None:
    """The key of ``KINDS``; None for numbers that no model here has."""
    return next((kind for kind, dtypes in KINDS.items() if tensor.dtype in dtypes), None)


def listed(problems: Sequence[str]) -> str:
    """The first of some problems, and how many more there are."""
    rest = f'; and {len(problems) - SHOWN} more' if len(problems) > SHOWN else ''
    return f'{"; ".join(map(one_line, problems[:SHOWN]))}{rest}'
