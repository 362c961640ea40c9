"""Names of the official SSAN weights, to ours and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sen_toolbox.checkpoint import aligned_parts
from sen_toolbox.checkpoint.aligned_parts import to_official

# What a checkpoint holds, and how the names of its weights begin here.
ENTRIES = {
    'network': 'network.',
    'WL': 'WL.',
    'WN': 'WN.',
    'WG': 'WG.',
    'test_best': None,
    'epoch': None,
}
# The classifier of the whole, which the release forgets to save; ours has it on the way back.
MAY_LACK = ('WG',)

__all__ = ['ENTRIES', 'MAY_LACK', 'from_official', 'to_official']


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames official tensors, in float32, and joins those of all parts.

    Args:
        state: The weights; without ``WG`` that classifier, which search does not use, is zeros.

    Raises:
        ValueError: Names the keys that the table does not know.
    """
    if not any(key.startswith('WG.') for key in state):
        # A part has as many numbers as the whole.
        part = 'WL.W.0.block.'
        state = dict(state) | {
            key.replace('WL', 'WG'): torch.zeros_like(value)
            for key, value in state.items()
            if key.startswith(part)
        }
    return aligned_parts.from_official(state)
