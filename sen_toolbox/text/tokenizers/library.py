"""Any tokenizer of the library ``tokenizers``, whole in its own JSON."""

import functools
import hashlib
import html
import string
from collections.abc import Sequence

from tokenizers import Tokenizer

from sen_toolbox.checks import checked_whole_number
from sen_toolbox.messages import one_line
from sen_toolbox.text.tokens import Ids, Piece, SpecialTokens, Tokens

from .rows import check_context_length, fingerprint_of, longest_run, pack_rows, without_padding

# What stands before the first piece of a word, in SentencePiece and in byte-level vocabularies, and
# before all others in WordPiece.
BEGINS, CONTINUES = ('▁', 'Ġ'), '##'
CLEAN = ('whitespace', 'lower', 'canonicalize')
PUNCTUATION = str.maketrans('', '', string.punctuation)


class LibraryTokenizer:
    """A row is start token, words, end token, padding, as far as the tokenizer has them.

    It is what SigLIP's, CLIPA's and other models of open_clip read, cleaned as there. Unlike there,
    "</s>" and the like in a caption are left out.

    Args:
        context_length: Tokens in a row.
        content: The tokenizer in the library's JSON.
        pad: Id of the padding.
        clean: 'whitespace' for single spaces, 'lower' for lower case besides, or 'canonicalize' for
            lower case without punctuation.
        has_end: Whether the end token stays; CLIPA takes it out again.

    Raises:
        ValueError: If there is no such cleaning, or the library does not read the content or adds
            more than one token at an end.
    """

    def __init__(
        self,
        *,
        context_length: int,
        content: str,
        pad: int,
        clean: str = 'whitespace',
        has_end: bool = True,
    ) -> None:
        if clean not in CLEAN:
            raise ValueError(f'clean is one of {", ".join(CLEAN)}, got {clean!r}')
        self._model = _read(content)
        self._content, self._clean, self._has_end = content, clean, has_end
        start, end = _around(self._model)
        pad = checked_whole_number('pad', pad)
        self._ends = {start, end, pad}
        self.special = SpecialTokens(start, end if has_end else None, None, pad)
        self.context_length = context_length
        check_context_length(context_length, self.special)
        added = {
            id for id, token in self._model.get_added_tokens_decoder().items() if token.special
        }
        ids = self._model.get_vocab(with_added_tokens=False).values()
        self.vocab_size = 1 + max([*ids, pad, *(id for id in (start, end) if id is not None)])
        self.words = longest_run([id not in added for id in range(self.vocab_size)])
        self._marks_begin = any(
            symbol.startswith(BEGINS) for symbol in self._model.get_vocab(with_added_tokens=False)
        )

    def encode(self, text: str) -> list[int]:
        """Ids of the words of a text, without special tokens and not cut."""
        ids = self._model.encode(_cleaned(text, self._clean), add_special_tokens=False).ids
        return [id for id in ids if id not in self._ends]

    def pack(self, rows: Sequence[Ids]) -> Tokens:
        """Rows of :meth:`encode` with special tokens and padding, cut to (T, L), in NumPy."""
        # Where the end token is taken out again, its room stays empty.
        room = self.context_length - (self.special.start is not None) - 1
        rows = rows if self._has_end else [row[:room] for row in rows]
        return pack_rows(rows, self.special, self.context_length)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokens of some captions, in NumPy."""
        return self.pack([self.encode(text) for text in texts])

    def decode(self, ids: Ids) -> list[Piece]:
        """The tokens of a row as text, without start, end and padding."""
        ids = without_padding(ids, self.special.pad)
        pieces = []
        for position, token in enumerate(ids):
            if token in (self.special.start, self.special.end):
                continue
            follower = ids[position + 1] if position + 1 < len(ids) else None
            text = self._symbol(token)
            for mark in (*BEGINS, CONTINUES):
                text = text.removeprefix(mark)
            pieces.append(Piece(position, text, follower is None or self._begins(follower)))
        return pieces

    def _symbol(self, token: int) -> str:
        return self._model.id_to_token(token) or ''

    def _begins(self, token: int) -> bool:
        symbol = self._symbol(token)
        is_end = token == self.special.end
        marked = symbol.startswith(BEGINS) if self._marks_begin else symbol[:2] != CONTINUES
        return is_end or marked

    def describe(self) -> dict:
        """Config that builds it again, with the whole vocabulary."""
        return dict(
            type='LibraryTokenizer',
            context_length=self.context_length,
            content=self._content,
            pad=self.special.pad,
            clean=self._clean,
            has_end=self._has_end,
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names everything that ids depend on."""
        digest = hashlib.sha256(self._content.encode()).hexdigest()
        return fingerprint_of({**self.describe(), 'content': digest}, 'tokenizers', 'ftfy')


def _read(content: str) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing more exact
        raise ValueError(f'the library tokenizers reads no tokenizer: {one_line(error)}') from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _around(tokenizer: Tokenizer) -> tuple[int | None, int | None]:
    """Ids that are added before and behind a caption."""
    plain = tokenizer.encode('a', add_special_tokens=False).ids
    whole = tokenizer.encode('a').ids
    for first in (0, 1):
        rest = whole[first + len(plain) :]
        if whole[first : first + len(plain)] == plain and len(rest) <= 1:
            return (whole[0] if first else None), (rest[0] if rest else None)
    raise ValueError(f'a tokenizer adds one token at each end at most, this one makes {whole}')


def _cleaned(text: str, clean: str) -> str:
    # Imported here because it takes a while, and only text needs it.
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if clean == 'canonicalize':
        text = text.replace('_', ' ').translate(PUNCTUATION)
    if clean != 'whitespace':
        text = text.lower()
    return ' '.join(text.split())
