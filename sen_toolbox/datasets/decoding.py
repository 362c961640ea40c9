"""Turns token ids back into words, for people to read."""

from collections.abc import Sequence
from typing import NamedTuple

from .transforms.text import END_ID, MASK_ID, START_ID, clip_tokenizer

WORD_END = '</w>'


class Piece(NamedTuple):
    """A token as text.

    Args:
        text: What the model reads; ``[mask]`` for the mask.
        was: What it was before masking chose it, the same if it was kept; empty for others.
        ends_word: Whether a space follows.
    """

    text: str
    was: str
    ends_word: bool


def decode_pieces(tokens: Sequence[int], labels: Sequence[int] | None = None) -> list[Piece]:
    """Returns the tokens of a caption without start, end and padding.

    Args:
        tokens: Token ids (L,).
        labels: Ids (L,) of the tokens that masking chose, 0 elsewhere; None if nothing did.
    """
    labels = [0] * len(tokens) if labels is None else labels
    pieces = []
    for token, label in zip(map(int, tokens), map(int, labels), strict=True):
        if token in (0, START_ID, END_ID):
            continue
        original = _text(label or token)
        text = '[mask]' if token == MASK_ID else _text(token).removesuffix(WORD_END)
        was = original.removesuffix(WORD_END) if label else ''
        pieces.append(Piece(text, was, original.endswith(WORD_END)))
    return pieces


def _text(token: int) -> str:
    tokenizer = clip_tokenizer()
    characters = bytearray(tokenizer.byte_decoder[char] for char in tokenizer.decoder[token])
    return characters.decode('utf-8', errors='replace')
