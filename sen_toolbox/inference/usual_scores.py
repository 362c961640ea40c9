"""Which best score a description usually has where somebody fits it, by its number of words.

A cosine says little by itself: with few words it is lower for the right person, too.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sen_toolbox.inference.encoder import Encoder

#: Numbers of words that are looked at; a caption's first ones stand for a shorter description.
WORDS = (3, 5, 8, 12, 16, 24, 32)
#: The share of descriptions whose best score is lower.
BELOW = 0.05
#: Fewer descriptions tell nothing of that share.
LEAST = 100

# Pairs of a number of words, ascending, and the score.
UsualScores = Sequence[tuple[int, float]]


def measure_usual_scores(
    encoder: 'Encoder', files: Sequence[str], captions: Sequence[str]
) -> UsualScores:
    """The scores that all but ``BELOW`` of some captions reach with the best of some pictures.

    In a larger gallery the best is higher still, in one of a few pictures it may be lower.

    Args:
        encoder: The model.
        files: Image files, best of people that the model was not trained on.
        captions: What is said of these people.

    Raises:
        ValueError: If fewer than ``LEAST`` captions have three words.
    """
    gallery = encoder.embed_files(files)
    found = []
    for number in WORDS:
        split = [caption.split()[:number] for caption in captions]
        texts = [' '.join(words) for words in split if len(words) == number]
        if len(texts) < LEAST:
            break
        best = (encoder.embed_text(texts) @ gallery.T).max(axis=1)
        found.append((number, round(float(np.quantile(best, BELOW)), 4)))
    if not found:
        raise ValueError(
            f'usual scores take {LEAST} captions of {WORDS[0]} words, got {len(captions)} captions'
        )
    return found


def usual_score(known: UsualScores, sentence: str) -> float | None:
    """What all but ``BELOW`` of descriptions of this length reach; None if not known."""
    if not known:
        return None
    words, scores = zip(*known, strict=True)
    return float(np.interp(len(sentence.split()), words, scores))


def checked_usual_scores(value: Any) -> UsualScores:
    """Those of a file, which may come from elsewhere.

    Raises:
        ValueError: If it is not a list of [words, score], words ascending, or is too long.
    """
    if (
        not isinstance(value, list)
        or len(value) > len(WORDS)
        or not all(isinstance(pair, list) and len(pair) == 2 for pair in value)
        or not all(type(words) is int and _is_score(score) for words, score in value)
        or any(a[0] >= b[0] for a, b in zip(value, value[1:], strict=False))
    ):
        raise ValueError('usual_scores is a list of [words, score], by ascending words')
    return [(words, float(score)) for words, score in value]


def _is_score(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and -1 <= value <= 1
