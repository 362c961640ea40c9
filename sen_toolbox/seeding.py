"""Random numbers as a function of what they are for, so that nothing has to be remembered."""

import hashlib
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

# NumPy's stubs leave these two out.
from numpy.random import get_bit_generator, set_bit_generator  # type: ignore[attr-defined]

# The second number of a key, so that no two purposes share a stream.
EPOCH, STEP, VALIDATION, SAMPLE = range(4)


def seed_generators(*key: int) -> None:
    """Seeds Python, NumPy and torch on all devices.

    Args:
        *key: Numbers from 0 up: the run's seed, one of ``EPOCH``, ``STEP``, ``VALIDATION`` and
            ``SAMPLE``, which of them it is, and where processes should differ the rank.
    """
    torch.manual_seed(seed_cpu(*key))


def seed_cpu(*key: int) -> int:
    """Seeds as ``seed_generators`` does, without reaching for a GPU; returns torch's seed."""
    # A digest, because NumPy's SeedSequence takes as long as seeding all three.
    digest = hashlib.blake2b(struct.pack(f'<{len(key)}Q', *key), digest_size=20).digest()
    for_python, for_numpy, for_torch = struct.unpack('<QIQ', digest)
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.default_generator.manual_seed(for_torch >> 1)
    return for_torch >> 1


@contextmanager
def generators_kept() -> Iterator[None]:
    """Puts the generators of the CPU back at the end as they were."""
    # NumPy's generator is exchanged, since copying its state takes longer than all the rest. Only
    # the second normal number that the legacy functions keep back is lost.
    before = random.getstate(), get_bit_generator(), torch.get_rng_state()
    try:
        set_bit_generator(_spare_generator(before[1]))
        yield
    finally:
        random.setstate(before[0])
        set_bit_generator(before[1])
        torch.set_rng_state(before[2])


_SPARE = np.random.MT19937(0)


def _spare_generator(used: np.random.BitGenerator) -> np.random.BitGenerator:
    # Another one within a block that has the first.
    return np.random.MT19937(0) if used is _SPARE else _SPARE
