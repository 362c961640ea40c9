"""Whether two computations of the same numbers differ by rounding alone."""

import torch

# Sums of some hundred products, a few layers in a row, lose about a hundred roundings of the
# largest number: 1.2e-7 each in float32, 2.2e-16 in float64.
ROUNDINGS = 100


def assert_same(
    found: torch.Tensor, expected: torch.Tensor, *, roundings: int = ROUNDINGS, msg: str = ''
) -> None:
    """Compare two tensors up to rounding, which follows the largest magnitude and not each number.

    A small entry is what large terms leave when they cancel, and has their rounding: which machine
    adds them in which order decides its last digits.

    Args:
        found: Any shape.
        expected: The same shape and type, from another computation.
        roundings: Allowed difference in units of the type's precision times the largest magnitude.
        msg: What is compared, for the error.
    """
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    bound = roundings * torch.finfo(expected.dtype).eps * expected.abs().max().item()
    difference = (found - expected).abs().max().item()
    # Also false where one of them is not finite.
    assert difference <= bound, f'{msg} differs by {difference:.3g}, allowed are {bound:.3g}'
