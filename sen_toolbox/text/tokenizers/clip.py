"""CLIP's byte pairs (Radford et al., arXiv:2103.00020; byte-pair encoding: arXiv:1508.07909)."""

import functools
import gzip
import html
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from sen_toolbox.open_clip_files import open_clip_folder
from sen_toolbox.text.tokens import Ids, Piece, SpecialTokens, Tokens

from .rows import MASK_TEXT, check_context_length, fingerprint_of, pack_rows, without_padding

VOCABULARY = 'bpe_simple_vocab_16e6.txt.gz'
WORD_END = '</w>'
# All pairs that make a token but the last, "jekyll": its id is the mask's.
NUM_PAIRS = 48893
SPECIAL = SpecialTokens(start=49406, end=49407, mask=49405, pad=0)
# Bytes that the vocabulary writes as themselves; the others follow as characters from 256 on.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
WORD_TABLE = Path(__file__).parents[1] / 'noun_or_adjective.npz'


class CLIPTokenizer:
    """CLIP's byte-pair tokens of the lower-cased caption, as in OpenAI's code and in open_clip.

    A row is start token, words, end token, zeros. A longer caption loses its last words; the end
    token stays the last, and stands for the caption. Text never yields a special token:

    - Id 49405 is the word "jekyll" to open_clip and the mask to the SEN and IRRA releases (whose
      tokenizer fails on that word). The merge that makes it, the last of the vocabulary, is left
      out: "jekyll" is spelled in two pieces and 49405 means the mask alone.
    - ``<start_of_text>``, ``<|endoftext|>``, ``<|mask|>`` and the like in a caption are plain text.

    The vocabulary lies in the package ``open_clip``, which is not imported.

    Args:
        context_length: Tokens in a row, at least 3. CLIP was trained with 77.

    Raises:
        ValueError: If there is no room for a word.
    """

    vocab_size = 49408
    special = SPECIAL
    # Id 0, the character "!" within a word, is that of the padding too.
    words = range(1, 49405)

    def __init__(self, context_length: int = 77) -> None:
        check_context_length(context_length, self.special)
        self.context_length = context_length

    def encode(self, text: str) -> list[int]:
        """Ids of the words of a text, without special tokens and not cut."""
        return _byte_pairs().encode(_clean(text), add_special_tokens=False).ids

    def words_of(self, text: str) -> list[tuple[str, list[int]]]:
        """The words of a text, lower-cased, punctuation too, each with its ids."""
        text = _clean(text)
        encoded = _byte_pairs().encode(text, add_special_tokens=False)
        words: list[tuple[str, list[int]]] = []
        pieces = zip(encoded.word_ids, encoded.ids, encoded.offsets, strict=True)
        for _, group in itertools.groupby(pieces, key=lambda piece: piece[0]):
            _, ids, places = zip(*group, strict=True)
            words.append((text[places[0][0] : places[-1][1]], list(ids)))
        return words

    def encode_as_it_is(self, word: str) -> list[int]:
        """Ids of a word whose capitals stay and which is not divided at punctuation."""
        return [token.id for token in _byte_pairs().model.tokenize(word)]

    def pack(self, rows: Sequence[Ids]) -> Tokens:
        """Rows of :meth:`encode` with start, end and zeros, cut to (T, L), in NumPy."""
        return pack_rows(rows, self.special, self.context_length)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokens of some captions, in NumPy."""
        return self.pack([self.encode(text) for text in texts])

    def decode(self, ids: Ids) -> list[Piece]:
        """The tokens of a row as text, without start, end and padding."""
        pieces = []
        for position, token in enumerate(without_padding(ids, self.special.pad)):
            if token == self.special.mask:
                pieces.append(Piece(position, MASK_TEXT, ends_word=True))
            elif token not in self.special:
                symbol = symbols()[token]
                text = decoders.ByteLevel().decode([symbol.removesuffix(WORD_END)])
                pieces.append(Piece(position, text, symbol.endswith(WORD_END)))
        return pieces

    def describe(self) -> dict:
        """Config that builds it again."""
        return dict(type='CLIPTokenizer', context_length=self.context_length)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names everything that ids depend on."""
        return fingerprint_of(self.describe(), 'open_clip_torch', 'tokenizers', 'ftfy')

    @property
    def noun_or_adjective(self) -> bytes:
        """1 for each id that the tagger of the SEN release calls noun or adjective, else 0.

        It saw every token alone, so that 92 % are: pieces of words count as nouns. The table is
        made by ``tools/make_word_table.py``.
        """
        return _noun_or_adjective()


@functools.cache
def symbols() -> list[str]:
    """The vocabulary by id, without special tokens; bytes as characters, ``</w>`` at words' ends.

    Raises:
        FileNotFoundError: If ``open_clip`` is not installed.
    """
    characters = [*map(chr, PRINTABLE), *(chr(256 + n) for n in range(256 - len(PRINTABLE)))]
    ends = [character + WORD_END for character in characters]
    return [*characters, *ends, *(first + second for first, second in _pairs())]


@functools.cache
def _pairs() -> list[tuple[str, str]]:
    """What is joined, the most frequent first."""
    folder = open_clip_folder()
    if folder is None:
        raise FileNotFoundError(
            f"CLIP's vocabulary {VOCABULARY} lies in the package open_clip, which is not "
            'installed: pip install open_clip_torch'
        )
    content = (folder / VOCABULARY).read_bytes()
    # Behind a line about the file, two symbols a line.
    _, _, lines = gzip.decompress(content).decode().partition('\n')
    found = lines.split()[: 2 * NUM_PAIRS]
    return list(zip(found[::2], found[1::2], strict=True))


@functools.cache
def _byte_pairs() -> Tokenizer:
    ids = {symbol: number for number, symbol in enumerate(symbols())}
    model = models.BPE(ids, _pairs(), end_of_word_suffix=WORD_END)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Letters and digits are those of Unicode 14; nothing else differs from open_clip.
            pre_tokenizers.Split(Regex(WORDS), behavior='removed', invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


@functools.cache
def _noun_or_adjective() -> bytes:
    # Bytes, because Python reads one of them faster than an element of an array.
    with np.load(WORD_TABLE) as table:
        return table['noun_or_adjective'].tobytes()


def _clean(text: str) -> str:
    # Of other characters there is nothing to repair, and the import takes a while.
    if not (text.isascii() and text.isprintable()) or '&' in text:
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return ' '.join(text.split()).lower()
