"""Whole words of a training split, as methods before byte pairs and word pieces read captions."""

import functools
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sen_toolbox.text.tokens import Ids, Piece, SpecialTokens, Tokens

from .counting import Splitting, counting_options, read_vocabulary, split_words
from .rows import check_context_length, fingerprint_of, pack_rows, without_padding

START_TEXT, END_TEXT, UNKNOWN_TEXT = '<START>', '<END>', '[unknown]'


class VocabularyTokenizer:
    """Whole words of a training split; what its options say is in what the official codes differ.

    A row is the words, then padding; with ``start`` and ``end`` it has those tokens too. The end
    token stands for the caption, or its last word where there is none. A caption without a known
    word is one token of padding, since recurrent networks take no empty sequence.

    ======================  ==========================  ==========================  ===============
    What the codes do       SSAN                        CMPM/C                      Dual Path
    ======================  ==========================  ==========================  ===============
    ``lower_case``          False, True in counting     True                        False
    ``deleted``             punctuation                 punctuation                 none
    ``separators``          none                        none                        ``-.,()``
    ``counting``            at least 2, by appearance   at least 3, by frequency    at least 1
    ``unknown_id``          False                       True                        False
    ``pad_is_first_word``   False                       True                        False
    ``start``               False                       True                        False
    ``context_length``      100                         (longest of the batch)      56
    ======================  ==========================  ==========================  ===============

    SSAN's annotation file holds the captions split into words already. CM-MoCo and ViTAA take lower
    case without punctuation, words that occur at least 3 times, by appearance, and one id for all
    others.

    Args:
        context_length: Tokens in a row.
        vocab_file: JSON file of ``tools/make_vocabulary.py``. Either this or ``vocabulary``.
        vocabulary: The words themselves, in the order of their ids.
        lower_case: Whether captions are lower-cased.
        deleted: Characters that are deleted from captions.
        separators: Characters at which words end, besides white space.
        unknown_id: Whether words that are not in the vocabulary get one id, behind the last word's,
            or are left out.
        pad_is_first_word: Whether the first word has the padding's id 0, or 1.
        start: Whether rows begin with a start token.
        end: Whether rows end with an end token.
        counting: Options of :func:`build_vocabulary` with which the words are counted; those for
            splitting are the tokenizer's unless they stand here. Compared with the file's.

    Raises:
        FileNotFoundError: If there is no such file; says how to make it.
        ValueError: If the file holds something else or was made with other options, a word comes
            twice, there is no room for a word, or not exactly one of file and vocabulary is given.
    """

    reads_files = frozenset({'vocab_file'})

    def __init__(
        self,
        *,
        context_length: int,
        vocab_file: str | Path | None = None,
        vocabulary: Sequence[str] | None = None,
        lower_case: bool = True,
        deleted: str = string.punctuation,
        separators: str = '',
        unknown_id: bool = False,
        pad_is_first_word: bool = False,
        start: bool = False,
        end: bool = False,
        counting: Mapping | None = None,
    ) -> None:
        self._splitting = Splitting(lower_case=lower_case, deleted=deleted, separators=separators)
        if vocab_file is not None and vocabulary is None:
            expected = counting_options(**self._splitting, counting=counting)
            vocabulary = read_vocabulary(Path(vocab_file), expected)
        elif vocab_file is not None or vocabulary is None:
            raise ValueError('VocabularyTokenizer takes either vocab_file or vocabulary')
        self.context_length = context_length
        first = 0 if pad_is_first_word else 1
        self._ids = {word: number for number, word in enumerate(vocabulary, start=first)}
        if len(self._ids) < len(vocabulary):
            [(word, count)] = Counter(vocabulary).most_common(1)
            raise ValueError(f'the vocabulary has {word!r} {count} times')
        self.words = range(first, first + len(self._ids))
        # Ids behind the words, by the text that stands for them.
        behind = {UNKNOWN_TEXT: unknown_id, START_TEXT: start, END_TEXT: end}
        names = [name for name, wanted in behind.items() if wanted]
        others = {name: number for number, name in enumerate(names, start=self.words.stop)}
        self._unknown = others.get(UNKNOWN_TEXT)
        self.special = SpecialTokens(others.get(START_TEXT), others.get(END_TEXT), None, pad=0)
        self.vocab_size = self.words.stop + len(others)
        check_context_length(context_length, self.special)

    def encode(self, text: str) -> list[int]:
        """Ids of the words of a text, without special tokens and not cut."""
        ids = (self._ids.get(word, self._unknown) for word in split_words(text, **self._splitting))
        return [number for number in ids if number is not None]

    def pack(self, rows: Sequence[Ids]) -> Tokens:
        """Rows of :meth:`encode` with special tokens, cut and padded to (T, L), in NumPy."""
        return pack_rows(rows, self.special, self.context_length)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokens of some captions, in NumPy."""
        return self.pack([self.encode(text) for text in texts])

    def decode(self, ids: Ids) -> list[Piece]:
        """The tokens of a row as text, without start, end and padding."""
        texts = dict(zip(self.words, self._ids, strict=True))
        return [
            Piece(position, texts.get(token, UNKNOWN_TEXT), ends_word=True)
            for position, token in enumerate(without_padding(ids, self.special.pad))
            if token not in (self.special.start, self.special.end)
        ]

    def describe(self) -> dict:
        """Config that builds it again, with all words."""
        return dict(
            type='VocabularyTokenizer',
            context_length=self.context_length,
            vocabulary=list(self._ids),
            **self._splitting,
            unknown_id=self._unknown is not None,
            pad_is_first_word=self.words.start == 0,
            start=self.special.start is not None,
            end=self.special.end is not None,
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names everything that ids depend on."""
        return fingerprint_of(self.describe())
