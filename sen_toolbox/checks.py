"""Ranges of numbers that configs and callers give; each check returns the number."""


def checked_share(name: str, value: float) -> float:
    """A share or a probability.

    Args:
        name: What the caller calls it, for the error.
        value: The number.

    Raises:
        ValueError: If it is not in 0..1.
    """
    if not 0 <= value <= 1:
        raise ValueError(f'{name} must be in 0..1, got {value}')
    return value


def checked_positive(name: str, value: float) -> float:
    """A number above 0.

    Raises:
        ValueError: If it is not.
    """
    if not value > 0:
        raise ValueError(f'{name} must be above 0, got {value}')
    return value


def checked_at_least(name: str, value: int, least: int) -> int:
    """A number from ``least`` up.

    Raises:
        ValueError: If it is below.
    """
    if not value >= least:
        raise ValueError(f'{name} must be at least {least}, got {value}')
    return value
