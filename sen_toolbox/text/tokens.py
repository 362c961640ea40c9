"""Captions as rows of token ids, with what every reader of such a row has to know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

# The ids of one caption.
Ids: TypeAlias = Sequence[int] | np.ndarray

if TYPE_CHECKING:
    # At run time torch is not needed: an exported model searches without it.
    import torch

    Array: TypeAlias = np.ndarray | torch.Tensor


class SpecialTokens(NamedTuple):
    """Ids that no word has; None where a vocabulary has none of the kind."""

    start: int | None
    end: int | None
    mask: int | None
    pad: int


class Piece(NamedTuple):
    """A token as text.

    Attributes:
        position: Its column in the row of ids.
        text: Its characters.
        ends_word: Whether a space follows.
    """

    position: int
    text: str
    ends_word: bool


@dataclass(frozen=True)
class Tokens:
    """T captions of up to L tokens; NumPy arrays in pipelines, tensors in batches.

    Attributes:
        ids: Token ids (T, L), int64.
        mask: True (T, L) on real tokens, special ones included. They come first, unless a training
            shifts them for an encoder that reads places.
        end: Column (T,) of the token that stands for the caption, int64: CLIP's end token, BERT's
            [CLS], the last word where there is no special token.
    """

    ids: Array
    mask: Array
    end: Array

    def __len__(self) -> int:
        """Number T of captions."""
        return len(self.ids)

    def __getitem__(self, rows: slice | Array) -> Tokens:
        """Some of the captions, by a slice or by indices (n,)."""
        return self.map(lambda array: array[rows])

    @property
    def lengths(self) -> Array:
        """Number (T,) of real tokens."""
        return self.mask.sum(1)

    def cut(self, length: int) -> Tokens:
        """The first ``length`` columns."""
        return Tokens(self.ids[:, :length], self.mask[:, :length], self.end)

    # Which of the two kinds of arrays a function gets, its caller alone knows.
    def map(self, function: Callable[[Any], Array]) -> Tokens:
        """The function's results on each of the three."""
        return Tokens(function(self.ids), function(self.mask), function(self.end))

    def pin_memory(self) -> Tokens:
        """Tensors in page-locked memory; torch's data loader asks for it by this name."""
        return self.map(lambda tensor: tensor.pin_memory())


def joined(parts: Sequence[Tokens], concatenate: Callable[[list[Array]], Array]) -> Tokens:
    """The captions of all parts, by ``torch.cat`` or ``numpy.concatenate``."""
    return Tokens(
        *(concatenate([getattr(part, name) for part in parts]) for name in ('ids', 'mask', 'end'))
    )


class Tokenizer(Protocol):
    """What TOKENIZERS holds; none of them needs torch.

    Attributes:
        vocab_size: Number of ids.
        context_length: Columns L of a row; longer captions are cut.
        special: Ids that no word has.
        words: Ids of ordinary words, which masking may choose and draw.
    """

    vocab_size: int
    context_length: int
    special: SpecialTokens
    words: range

    @property
    def fingerprint(self) -> str:
        """Names everything that ids depend on; names a cache."""

    def encode(self, text: str) -> list[int]:
        """Ids of the words of a text, without special tokens and not cut."""

    def pack(self, rows: Sequence[Ids]) -> Tokens:
        """Rows of :meth:`encode` with special tokens, cut and padded to (T, L), in NumPy."""

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokens of some captions, in NumPy."""

    def decode(self, ids: Ids) -> list[Piece]:
        """The tokens of a row as text, without start, end and padding."""

    def describe(self) -> dict:
        """Config that builds it again from nothing else: plain JSON values, the words included."""


def check_fit(tokenizer: Tokenizer, vocab_size: int, context_length: int) -> None:
    """Compares a tokenizer with the text encoder that is to read its rows.

    Args:
        tokenizer: The tokenizer.
        vocab_size: Number of ids of the encoder.
        context_length: Longest row of the encoder.

    Raises:
        ValueError: If it makes ids that the encoder lacks, or rows that are too long for it.
    """
    if tokenizer.vocab_size > vocab_size or tokenizer.context_length > context_length:
        raise ValueError(
            f'the tokenizer of the pipeline ({type(tokenizer).__name__}) has '
            f'{tokenizer.vocab_size} ids and rows of {tokenizer.context_length} tokens, the text '
            f'encoder takes {vocab_size} ids and {context_length} tokens at most: give both the '
            "same tokenizer and context_length ('$tokenizer', '$context_length')"
        )
