"""Layers without bias that start as the release's: uniform, by the numbers that a sum has."""

from torch import nn


def linear(before: int, after: int) -> nn.Linear:
    """A linear layer."""
    layer = nn.Linear(before, after, bias=False)
    start(layer.weight)
    return layer


def convolution(before: int, after: int, width: int = 1, stride: int = 1) -> nn.Conv1d:
    """A convolution along a sentence, without padding."""
    layer = nn.Conv1d(before, after, width, stride, bias=False)
    start(layer.weight)
    return layer


def start(weight: nn.Parameter, *, scale: float = 1.0) -> None:
    """Fills a weight (out, in, ...) uniformly within ``scale * sqrt(3 / number of inputs)``."""
    bound = scale * (3 / weight[0].numel()) ** 0.5
    nn.init.uniform_(weight, -bound, bound)
