"""Shorter texts of a caption: a phrase, and a piece between commas."""

import random
from collections.abc import Mapping

import numpy as np
from mmcv.transforms import BaseTransform

from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokens import Tokenizer, Tokens

SHORTEST = 6  # characters


@TRANSFORMS.register_module()
class TextLevels(BaseTransform):
    """Adds ``further_tokens``: of each caption a text of the word level and one of phrases.

    A phrase is, of a part between full stops, its longest piece between commas, or all its other
    pieces. Each level draws one text of more than five characters; without one it is the caption.

    Args:
        tokenizer: A tokenizer, or its config (TOKENIZERS).
        words: What the word level draws from: 'pieces' between commas, or again 'phrases'.

    Raises:
        ValueError: If ``words`` is another word.
    """

    changes = frozenset({'further_tokens'})

    def __init__(self, *, tokenizer: Tokenizer | Mapping, words: str = 'pieces') -> None:
        if words not in LEVELS:
            raise ValueError(f'words is one of {sorted(LEVELS)}, got {words!r}')
        self.tokenizer = as_tokenizer(tokenizer)
        self.levels = (LEVELS[words], phrases)

    def transform(self, results: dict) -> dict:
        """Adds ``further_tokens`` (n, 2 L), the levels side by side."""
        rows = [
            self.tokenizer([draw(level(caption), caption) for caption in results['captions']])
            for level in self.levels
        ]
        ids = np.concatenate([row.ids for row in rows], axis=1)
        mask = np.concatenate([row.mask for row in rows], axis=1)
        results['further_tokens'] = Tokens(ids, mask, rows[0].end)
        return results


def phrases(caption: str) -> list[str]:
    """Of each part between full stops the longest piece between commas, and the rest."""
    found = []
    for part in _parts(caption):
        pieces = [piece.strip() for piece in part.split(',')]
        longest = max(pieces, key=len)
        pieces.remove(longest)
        found += [longest, ', '.join(piece for piece in pieces if piece)]
    return [text for text in found if len(text) >= SHORTEST]


def comma_pieces(caption: str) -> list[str]:
    """All pieces between full stops and commas."""
    pieces = [piece.strip() for part in _parts(caption) for piece in part.split(',')]
    return [piece for piece in pieces if len(piece) >= SHORTEST]


LEVELS = {'pieces': comma_pieces, 'phrases': phrases}


def _parts(caption: str) -> list[str]:
    return caption.lower().strip('[]').split('.')


def draw(candidates: list[str], caption: str) -> str:
    """One of the texts; the caption if there is none."""
    return random.sample(candidates, 1)[0] if candidates else caption
