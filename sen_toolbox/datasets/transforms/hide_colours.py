"""A version of each caption that names no colour."""

from collections.abc import Mapping, Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.colours import COLOUR_WORDS, divide_at_words
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokens import Tokenizer

from .text import mask_of


@TRANSFORMS.register_module()
class HideColours(BaseTransform):
    """Adds ``second_tokens``, each caption with its colour words masked or left out.

    With masks also ``word_labels``: the token hidden at a place, 0 elsewhere, as of ``MaskWords``.
    A caption that names no colour stays as it is. For training alone:
    ``PackPair(per_caption=['second_tokens', 'word_labels'])`` puts both into the batch.

    Args:
        tokenizer: What made the tokens, or its config (TOKENIZERS).
        removes: Whether the words are left out, in place of a mask for each of their tokens.
        words: The words, lower-case.

    Raises:
        ValueError: If there are no words, or the tokenizer has no mask token and words are masked.
    """

    deterministic = True
    changes = frozenset({'second_tokens', 'word_labels'})

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | Mapping,
        removes: bool = False,
        words: Sequence[str] = COLOUR_WORDS,
    ) -> None:
        if not words:
            raise ValueError('words is empty: name at least one word to be hidden')
        self.tokenizer = as_tokenizer(tokenizer)
        self.mask_id = None if removes else mask_of(self.tokenizer, 'HideColours')
        self.words = tuple(words)

    def transform(self, results: dict) -> dict:
        """Adds ``second_tokens`` and, unless words are left out, ``word_labels`` (n, L) int64."""
        rows = [self._hide(caption) for caption in results['captions']]
        hidden = self.tokenizer.pack([row for row, _ in rows])
        results['second_tokens'] = hidden
        if self.mask_id is not None:
            whole = self.tokenizer.pack([row for _, row in rows])
            results['word_labels'] = np.where(hidden.ids == self.mask_id, whole.ids, 0)
        return results

    def _hide(self, caption: str) -> tuple[list[int], list[int]]:
        """Ids of a caption without its colours, and all of them."""
        hidden: list[int] = []
        whole: list[int] = []
        for text, is_colour in divide_at_words(caption, self.words):
            ids = self.tokenizer.encode(text)
            whole += ids
            if not is_colour:
                hidden += ids
            elif self.mask_id is not None:
                hidden += [self.mask_id] * len(ids)
        return hidden, whole
