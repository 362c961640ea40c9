"""Values of configs, callers and files: checks that return them, and how errors show them."""


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


def shown(value: object, length: int = 100) -> str:
    """A value as an error shows it: in one line, its middle left out if it is long.

    Args:
        value: Whatever a file holds.
        length: Characters, about.

    >>> shown('a\\n' * 2)
    "'a\\\\na\\\\n'"
    >>> shown('x' * 5000, length=10)
    "'xxxx ... xxxx'"
    """
    text = repr(value)
    return text if len(text) <= length else f'{text[: length // 2]} ... {text[-length // 2 :]}'
