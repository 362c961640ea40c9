"""Corruption of token ids that also shortens a caption."""

import random
from collections.abc import Mapping

import numpy as np
from mmcv.transforms import BaseTransform

from sen_toolbox.checks import checked_share
from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokens import Tokenizer, Tokens

from .text import mask_of


@TRANSFORMS.register_module()
class CorruptWords(BaseTransform):
    """Masks, replaces or removes random words of every caption.

    Of the chosen tokens 60 % become the mask, 20 % a random token and 20 % are removed, as in the
    RDE release; what follows a removed token moves up. A removal that would leave no word does not
    happen (the release then trains on nan).

    Uses Python's ``random`` in the order of the release, so that a seed gives its draws.

    Args:
        tokenizer: What made the tokens, or its config.
        rate: Probability for each token, in 0..1. 0.2 in the release.
        key: Which tokens, e.g. ``second_tokens``.

    Raises:
        ValueError: If the rate is not in 0..1 or the tokenizer has no mask token.
    """

    def __init__(
        self, *, tokenizer: Tokenizer | Mapping, rate: float = 0.2, key: str = 'tokens'
    ) -> None:
        self.rate = checked_share('rate', rate)
        self.tokenizer = as_tokenizer(tokenizer)
        self.mask_id = mask_of(self.tokenizer, 'CorruptWords')
        self.key = key
        self.changes = frozenset({key})

    def transform(self, results: dict) -> dict:
        """Changes the tokens of n captions."""
        tokens = results[self.key]
        ids = np.full_like(tokens.ids, self.tokenizer.special.pad)
        mask, end = np.zeros_like(tokens.mask), tokens.end.copy()
        for row, length in enumerate(tokens.lengths.tolist()):
            kept, columns = self._corrupt(tokens.ids[row, :length].tolist())
            ids[row, : len(kept)] = kept
            mask[row, : len(kept)] = True
            # Where the token that stands for the caption is now; the last one if it was removed.
            end[row] = min(np.searchsorted(columns, end[row]), len(kept) - 1)
        results[self.key] = Tokens(ids, mask, end)
        return results

    def _corrupt(self, ids: list[int]) -> tuple[list[int], list[int]]:
        """What becomes of the ids of a caption, and the column that each came from."""
        words = self.tokenizer.words
        left = sum(token in words for token in ids)
        kept, columns = [], []
        for column, token in enumerate(ids):
            if token in words and (draw := random.random()) < self.rate:
                share = draw / self.rate
                if share < 0.6:
                    token = self.mask_id
                elif share < 0.8:
                    token = random.choice(words)
                elif left > 1:
                    left -= 1
                    continue
            kept.append(token)
            columns.append(column)
        return kept, columns
