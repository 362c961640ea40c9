"""BERT's word pieces (Devlin et al., arXiv:1810.04805)."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from sen_toolbox.text.tokens import Ids, Piece, SpecialTokens, Tokens

from .rows import (
    MASK_TEXT,
    check_context_length,
    fingerprint_of,
    longest_run,
    pack_rows,
    without_padding,
)

CONTINUES = '##'
START, END, MASK, PAD, UNKNOWN = NEEDED = ('[CLS]', '[SEP]', '[MASK]', '[PAD]', '[UNK]')
NO_WORD = re.compile(r'\[.+\]')


class WordPieceTokenizer:
    """Longest pieces of words, from left to right, of a given vocabulary.

    A row is [CLS], words, [SEP], padding; [CLS] stands for the caption. As in the codes that train
    BERT on captions of persons (TIPCB, NAFS, SAF, LGUR, CFine), a caption that is too long is cut
    behind the [SEP] that was added, so that it has none. Unlike there, ``[SEP]`` and the like in a
    caption are plain text.

    Args:
        context_length: Tokens in a row, at least 3.
        vocab_file: ``vocab.txt`` of a BERT model, one piece a line. Either this or ``vocabulary``.
        vocabulary: The pieces themselves, by id.
        lower_case: Whether the text is lower-cased and loses its accents, as uncased models expect.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no room for a word, or the vocabulary lacks a special token or has a
            piece twice, or not exactly one of file and vocabulary is given.
    """

    reads_files = frozenset({'vocab_file'})

    def __init__(
        self,
        *,
        context_length: int,
        vocab_file: str | Path | None = None,
        vocabulary: Sequence[str] | None = None,
        lower_case: bool = True,
    ) -> None:
        if vocab_file is not None and vocabulary is None:
            self._pieces = _read(Path(vocab_file))
        elif vocab_file is None and vocabulary is not None:
            self._pieces = list(vocabulary)
        else:
            raise ValueError('WordPieceTokenizer takes either vocab_file or vocabulary')
        ids = {piece: number for number, piece in enumerate(self._pieces)}
        missing = [piece for piece in NEEDED if piece not in ids]
        source = vocab_file or 'the vocabulary'
        if missing:
            raise ValueError(f'{source} lacks {", ".join(missing)}: give vocab.txt of a BERT model')
        if len(ids) < len(self._pieces):
            twice = next(p for n, p in enumerate(self._pieces) if ids[p] != n)
            raise ValueError(f'{source} has {twice!r} twice')
        self.lower_case = lower_case
        self.context_length = context_length
        self.vocab_size = len(ids)
        self.special = SpecialTokens(ids[START], ids[END], ids[MASK], ids[PAD])
        self.words = longest_run([NO_WORD.fullmatch(piece) is None for piece in self._pieces])
        check_context_length(context_length, self.special)
        self._model = Tokenizer(models.WordPiece(ids, unk_token=UNKNOWN))
        self._model.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
        self._model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def encode(self, text: str) -> list[int]:
        """Ids of the words of a text, without special tokens and not cut."""
        return self._model.encode(text, add_special_tokens=False).ids

    def pack(self, rows: Sequence[Ids]) -> Tokens:
        """Rows of :meth:`encode` with [CLS], [SEP] and padding, cut to (T, L), in NumPy."""
        return pack_rows(rows, self.special, self.context_length, first_stands_for_all=True)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokens of some captions, in NumPy."""
        return self.pack([self.encode(text) for text in texts])

    def decode(self, ids: Ids) -> list[Piece]:
        """The tokens of a row as text, without [CLS], [SEP] and padding."""
        ids = without_padding(ids, self.special.pad)
        pieces = []
        for position, token in enumerate(ids):
            if token in (self.special.start, self.special.end):
                continue
            text = MASK_TEXT if token == self.special.mask else self._pieces[token]
            follower = self._pieces[ids[position + 1]] if position + 1 < len(ids) else ''
            ends_word = not follower.startswith(CONTINUES)
            pieces.append(Piece(position, text.removeprefix(CONTINUES), ends_word))
        return pieces

    def describe(self) -> dict:
        """Config that builds it again, with all pieces."""
        return dict(
            type='WordPieceTokenizer',
            context_length=self.context_length,
            vocabulary=self._pieces,
            lower_case=self.lower_case,
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names everything that ids depend on."""
        return fingerprint_of(self.describe(), 'tokenizers')


def _read(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no vocabulary {path}: copy vocab.txt of the BERT model there, e.g. that of '
            'bert-base-uncased'
        )
    return path.read_text(encoding='utf-8').removesuffix('\n').split('\n')
