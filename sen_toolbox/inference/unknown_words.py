"""Words that mean nothing to a model."""

import re

import numpy as np

from sen_toolbox.text.tokens import Tokenizer


def unknown_words(tokenizer: Tokenizer, known: np.ndarray, sentence: str) -> list[str]:
    """Words of a sentence that the vocabulary lacks or of which a model knows not every token.

    Args:
        tokenizer: The model's.
        known: Whether each token of the vocabulary means anything, (V,) bool.
        sentence: The sentence.
    """
    words = list(dict.fromkeys(re.findall(r'\w+', sentence.lower())))
    ids = [tokenizer.encode(word) for word in words]
    return [word for word, row in zip(words, ids, strict=True) if not row or not known[row].all()]
