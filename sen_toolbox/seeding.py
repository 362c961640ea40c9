"""Random numbers as a function of what they are for, so that nothing has to be remembered."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

# The second number of a key, so that no two purposes share a stream.
EPOCH, STEP, VALIDATION, SAMPLE = range(4)


def seed_generators(*key: int) -> None:
    """Seeds Python, NumPy and torch on all devices.

    Args:
        *key: Numbers from 0 up: the run's seed, one of ``EPOCH``, ``STEP``, ``VALIDATION`` and
            ``SAMPLE``, which of them it is, and where processes should differ the rank.
    """
    torch.manual_seed(_seed_cpu(key))


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seeds the generators of the CPU as ``seed_generators`` does and puts them back at the end."""
    # NumPy's generator is exchanged, since copying its state takes longer than all the rest. Only
    # the second normal number that the legacy functions keep back is lost.
    before = random.getstate(), np.random.get_bit_generator(), torch.get_rng_state()
    try:
        np.random.set_bit_generator(_spare_generator(before[1]))
        _seed_cpu(key)
        yield
    finally:
        random.setstate(before[0])
        np.random.set_bit_generator(before[1])
        torch.set_rng_state(before[2])


_SPARE = np.random.MT19937(0)


def _spare_generator(used: np.random.BitGenerator) -> np.random.BitGenerator:
    # Another one within a block that has the first.
    return np.random.MT19937(0) if used is _SPARE else _SPARE


def _seed_cpu(key: tuple[int, ...]) -> int:
    words = np.random.SeedSequence(key).generate_state(6)
    random.seed(words[:2].tobytes())
    np.random.seed(words[2:4])
    # Not torch.manual_seed, which would reach for a GPU in a data worker.
    number = int(words[4:].view(np.uint64)[0]) >> 1
    torch.default_generator.manual_seed(number)
    return number
