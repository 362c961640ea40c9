"""Corruption of token ids that also shortens a caption."""

import random

import numpy as np
from mmcv.transforms import BaseTransform

from sen_toolbox.checks import checked_share
from sen_toolbox.registry import TRANSFORMS

from .text import MASK_ID


@TRANSFORMS.register_module()
class CorruptWords(BaseTransform):
    """Masks, replaces or removes random words of every caption.

    Of the chosen tokens 60 % become the mask, 20 % a random token and 20 % are removed, as in the
    RDE release; what follows a removed token moves up. A removal that would leave no word does not
    happen (the release then trains on nan).

    Uses Python's ``random`` in the order of the release, so that a seed gives its draws.

    Args:
        rate: Probability for each token, in 0..1. 0.2 in the release.

    Raises:
        ValueError: If the rate is not in 0..1.
    """

    def __init__(self, rate: float = 0.2) -> None:
        self.rate = checked_share('rate', rate)

    def transform(self, results: dict) -> dict:
        """Changes ``tokens``, int64 (n, L)."""
        results['tokens'] = np.stack([self._corrupt(row) for row in results['tokens']])
        return results

    def _corrupt(self, tokens: np.ndarray) -> np.ndarray:
        left = int(((tokens > 0) & (tokens < MASK_ID)).sum())
        kept = []
        for token in tokens.tolist():
            if 0 < token < MASK_ID and (draw := random.random()) < self.rate:
                share = draw / self.rate
                if share < 0.6:
                    token = MASK_ID
                elif share < 0.8:
                    token = random.choice(range(1, MASK_ID))
                elif left > 1:
                    left -= 1
                    continue
            kept.append(token)
        return np.array(kept + [0] * (len(tokens) - len(kept)), dtype=tokens.dtype)
