"""Turns token ids back into words, for people to read."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .tokens import Tokenizer


class SeenPiece(NamedTuple):
    """A token as text, as a model reads it after masking.

    Attributes:
        text: What the model reads.
        was: What it was before masking chose it, the same if it was kept; empty for others.
        ends_word: Whether a space follows.
    """

    text: str
    was: str
    ends_word: bool


def seen_pieces(
    tokenizer: Tokenizer, ids: Sequence[int], labels: Sequence[int] | None = None
) -> list[SeenPiece]:
    """The tokens of a caption without start, end and padding.

    Args:
        tokenizer: What made the ids.
        ids: Token ids (L,).
        labels: Ids (L,) of the tokens that masking chose, 0 elsewhere; None if nothing did.
    """
    shown = np.asarray(ids)
    chosen = np.zeros_like(shown) if labels is None else np.asarray(labels)
    # Where words end is read from what was there, since a mask does not tell.
    before = tokenizer.decode(np.where(chosen > 0, chosen, shown))
    return [
        SeenPiece(seen.text, was.text if chosen[was.position] > 0 else '', was.ends_word)
        for seen, was in zip(tokenizer.decode(shown), before, strict=True)
    ]
