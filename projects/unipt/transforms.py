"""Masks whole words of a copy of each caption."""

import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from mmcv.transforms import BaseTransform

from sen_toolbox.checks import checked_share
from sen_toolbox.datasets.transforms.text import mask_of
from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokens import Tokenizer


@TRANSFORMS.register_module()
class MaskWholeWords(BaseTransform):
    """Adds ``masked_tokens``, a copy in which all pieces of some random words are masked.

    Words are drawn until they have ``share`` of the pieces; at least one is. Of their pieces 80 %
    become the mask, 10 % a random one and 10 % stay.

    Args:
        tokenizer: What made the tokens, or its config (TOKENIZERS).
        share: Share of the pieces of a caption, in 0..1.

    Raises:
        ValueError: If the share is not in 0..1 or the tokenizer has no mask token.
    """

    changes = frozenset({'masked_tokens', 'word_labels'})

    def __init__(self, *, tokenizer: Tokenizer | Mapping, share: float = 0.15) -> None:
        self.share = checked_share('share', share)
        self.tokenizer = as_tokenizer(tokenizer)
        self.mask_id = mask_of(self.tokenizer, 'MaskWholeWords')

    def transform(self, results: dict) -> dict:
        """Adds ``masked_tokens`` and ``word_labels`` (n, L): the piece drawn, 0 elsewhere."""
        tokens = results['tokens']
        ids, labels = tokens.ids.copy(), np.zeros_like(tokens.ids)
        for row, row_labels, length in zip(ids, labels, tokens.lengths.tolist(), strict=True):
            for place in self._draw(row[:length]):
                row_labels[place] = row[place]
                row[place] = self._replacement(int(row[place]))
        results['masked_tokens'] = replace(tokens, ids=ids)
        results['word_labels'] = labels
        return results

    def _draw(self, row: np.ndarray) -> list[int]:
        """Places of all pieces of some words."""
        words: list[list[int]] = [[]]
        for piece in self.tokenizer.decode(row):
            words[-1].append(piece.position)
            if piece.ends_word:
                words.append([])
        words = [word for word in words if word]
        wanted = max(1, round(self.share * sum(map(len, words))))
        random.shuffle(words)
        places: list[int] = []
        for word in words:
            if len(places) < wanted:
                places += word
        return places

    def _replacement(self, token: int) -> int:
        draw = random.random()
        if draw < 0.8:
            return self.mask_id
        return random.choice(self.tokenizer.words) if draw < 0.9 else token
