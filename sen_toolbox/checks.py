"""Values of configs, callers and files, checked; each check returns the value."""

import numbers
from typing import Any, TypeGuard

from sen_toolbox.messages import shown


def checked_share(name: str, value: float) -> float:
    """A share or a probability.

    Args:
        name: What the caller calls it, for the error.
        value: The number.

    Raises:
        ValueError: If it is not in 0..1.
    """
    if not (isinstance(value, numbers.Real) and 0 <= value <= 1):
        raise ValueError(f'{name} must be in 0..1, got {shown(value)}')
    return value


def checked_positive(name: str, value: float) -> float:
    """A number above 0.

    Raises:
        ValueError: If it is not.
    """
    if not (isinstance(value, numbers.Real) and value > 0):
        raise ValueError(f'{name} must be above 0, got {shown(value)}')
    return value


def checked_at_least(name: str, value: int, least: int) -> int:
    """A number from ``least`` up.

    Raises:
        ValueError: If it is below.
    """
    if not (isinstance(value, numbers.Real) and value >= least):
        raise ValueError(f'{name} must be at least {least}, got {shown(value)}')
    return value


def checked_whole_number(name: str, value: Any) -> int:
    """A whole number from 0 up, for values from files.

    Raises:
        ValueError: If it is anything else.
    """
    if not is_whole_number(value):
        raise ValueError(f'{name} must be a whole number from 0 up, got {shown(value)}')
    return value


def is_whole_number(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number from 0 up; True and False are not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 0
