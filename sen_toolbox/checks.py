"""Checks of numbers that configs give."""


def checked_share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f'{name} is a share in 0..1, got {value}')
    return value
