"""A caption and its first two clauses in one row of tokens."""

from collections.abc import Mapping, Sequence

import numpy as np

from sen_toolbox.registry import TOKENIZERS
from sen_toolbox.text.tokenizers.rows import fingerprint_of
from sen_toolbox.text.tokens import Piece, Tokenizer, Tokens

MARKS = ';,!?.'
CLAUSES = 2


@TOKENIZERS.register_module()
class ClauseTokenizer:
    """Rows of three equal thirds: the caption, and the two clauses with which it begins.

    Clauses end at the marks ``; , ! ? .``. One that is missing is a token of padding that counts as
    a word, as the text "[PAD]" is in the release.

    Args:
        context_length: Tokens in a row, three times those of a caption.
        tokenizer: Config of the tokenizer of captions, without ``context_length``.

    Raises:
        ValueError: If the length is not a multiple of three.
    """

    def __init__(self, *, context_length: int, tokenizer: Mapping) -> None:
        if context_length % (1 + CLAUSES):
            raise ValueError(
                f'context_length is that of a caption and of {CLAUSES} clauses, so a multiple of '
                f'{1 + CLAUSES}, got {context_length}'
            )
        self.inner: Tokenizer = TOKENIZERS.build(
            {**tokenizer, 'context_length': context_length // (1 + CLAUSES)}
        )
        self.context_length = context_length
        self.vocab_size, self.special = self.inner.vocab_size, self.inner.special
        self.words = self.inner.words
        rows = ((mark, self.inner.encode(mark)) for mark in MARKS)
        # Not an id of unknown words, which would end a clause at each of them.
        self._marks = {row[0] for mark, row in rows if len(row) == 1 and self._is(row[0], mark)}
        self.fingerprint = fingerprint_of(dict(clauses=CLAUSES, inner=self.inner.fingerprint))

    def _is(self, token: int, mark: str) -> bool:
        return [piece.text for piece in self.inner.decode([token])] == [mark]

    def encode(self, text: str) -> list[int]:
        """Ids of the words of a text, without special tokens and not cut."""
        return self.inner.encode(text)

    def pack(self, rows: Sequence[Sequence[int]]) -> Tokens:
        """Rows of :meth:`encode` beside their clauses, with special tokens, in NumPy."""
        whole = self.inner.pack(rows)
        clauses = [self.clauses(row) for row in rows]
        parts = [whole, *(self.inner.pack(each) for each in zip(*clauses, strict=True))]
        if not rows:
            parts = [whole] * (1 + CLAUSES)
        ids, mask = (np.concatenate([getattr(p, n) for p in parts], 1) for n in ('ids', 'mask'))
        return Tokens(ids, mask, whole.end)

    def clauses(self, row: Sequence[int]) -> list[list[int]]:
        """Ids of the first two clauses of a row of :meth:`encode`."""
        found: list[list[int]] = [[]]
        for token in row:
            if token in self._marks:
                found.append([])
            else:
                found[-1].append(token)
        return [*found, *[[self.special.pad]] * CLAUSES][:CLAUSES]

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokens of some captions, in NumPy."""
        return self.pack([self.encode(text) for text in texts])

    def decode(self, ids: Sequence[int]) -> list[Piece]:
        """The tokens of the caption of a row as text, without special tokens."""
        return self.inner.decode(ids[: self.inner.context_length])

    def describe(self) -> dict:
        """Config that builds it again from nothing else."""
        return dict(
            type='ClauseTokenizer',
            context_length=self.context_length,
            tokenizer=self.inner.describe(),
        )
