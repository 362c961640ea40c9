"""A mixture of two normal distributions on a line, fitted by expectation maximisation."""

import numpy as np


def lower_component(
    values: np.ndarray, *, max_iterations: int, tolerance: float, variance_floor: float
) -> np.ndarray:
    """Probability (n,) of each value to belong to the component with the lower mean.

    Starts from the split of least squares and stops as scikit-learn's ``GaussianMixture`` does,
    which starts there, too, whenever its k-means finds that split. That library with what it
    needs takes 200 MB, and nothing else here would use it.

    Args:
        values: Values (n,), n at least 2, not all equal.
        max_iterations: Rounds of expectation maximisation at most.
        tolerance: Gain of the mean log-likelihood below which they end.
        variance_floor: Added to each variance, so that none vanishes.
    """
    values = values.astype(np.float64)
    share = _least_squares_split(values).astype(np.float64)
    responsibility = np.stack([share, 1 - share])
    previous = -np.inf
    for _ in range(max_iterations):
        mean, variance, weight = _fit(values, responsibility, variance_floor)
        responsibility, likelihood = _responsibility(values, mean, variance, weight)
        if abs(likelihood - previous) < tolerance:
            break
        previous = likelihood
    mean, variance, weight = _fit(values, responsibility, variance_floor)
    return _responsibility(values, mean, variance, weight)[0][mean.argmin()]


def _least_squares_split(values: np.ndarray) -> np.ndarray:
    """True for the values below the threshold that leaves the least variance within both sides."""
    ordered = np.sort(values)
    below = np.arange(1, len(ordered))
    total = ordered.cumsum()
    gap = total[:-1] / below - (total[-1] - total[:-1]) / (len(ordered) - below)
    between = below * (len(ordered) - below) * gap**2
    return values <= ordered[between.argmax()]


def _fit(values: np.ndarray, responsibility: np.ndarray, floor: float) -> tuple[np.ndarray, ...]:
    total = responsibility.sum(axis=1) + 10 * np.finfo(np.float64).eps
    mean = responsibility @ values / total
    variance = (responsibility * (values - mean[:, None]) ** 2).sum(axis=1) / total + floor
    return mean, variance, total / total.sum()


def _responsibility(
    values: np.ndarray, mean: np.ndarray, variance: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, float]:
    """Share (2, n) of each component in each value, and the mean log-likelihood."""
    distance = (values - mean[:, None]) ** 2 / variance[:, None]
    joint = np.log(weight)[:, None] - (np.log(2 * np.pi * variance)[:, None] + distance) / 2
    likelihood = np.logaddexp(*joint)
    return np.exp(joint - likelihood), likelihood.mean()
