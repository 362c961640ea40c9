"""Words that mean nothing to a model."""

import re
from collections.abc import Sequence

import numpy as np

from sen_toolbox.text.tokens import Tokenizer

# What stands around a word but is not part of it.
AROUND = re.compile(r'^\W+|\W+$')


def unknown_words(tokenizer: Tokenizer, known: np.ndarray, sentence: str) -> list[str]:
    """Words of a sentence that the vocabulary lacks or of which a model knows not every token.

    Args:
        tokenizer: The model's.
        known: Whether each token of the vocabulary means anything, (V,) bool.
        sentence: The sentence.

    Returns:
        The words in lower case, each once.
    """
    words: dict[str, Sequence[int]] = {}
    for word in sentence.split():
        word = AROUND.sub('', word)
        words.setdefault(word.lower(), tokenizer.encode(word))
    words.pop('', None)
    # A word without tokens is left out of the caption; a token that is not a word may mean any.
    return [
        word
        for word, ids in words.items()
        if not ids or not all(token in tokenizer.words and known[token] for token in ids)
    ]
