"""The words of a caption and their places among its tokens, for people to look at."""

from collections.abc import Sequence
from dataclasses import dataclass

from sen_toolbox.text.tokens import Tokenizer, Tokens


@dataclass(frozen=True)
class CaptionWords:
    """A caption word by word.

    Attributes:
        words: The words as the model reads them.
        places: Columns of the tokens of each word.
        tokens: The caption, and it again without each of the words: 1 + words rows, in NumPy.
    """

    words: list[str]
    places: list[slice]
    tokens: Tokens


def caption_words(tokenizer: Tokenizer, caption: str) -> CaptionWords:
    """The words of a caption that fit into the context and have a letter or digit in them."""
    whole = tokenizer([caption])
    words, places = [], []
    text, start = '', None
    for piece in tokenizer.decode(whole.ids[0].tolist()):
        start = piece.position if start is None else start
        text += piece.text
        if piece.ends_word:
            if any(map(str.isalnum, text)):
                words.append(text)
                places.append(slice(start, piece.position + 1))
            text, start = '', None
    ids = tokenizer.encode(caption)
    first = 0 if tokenizer.special.start is None else 1
    rows = [ids, *(_without(ids, place, first) for place in places)]
    return CaptionWords(words, places, tokenizer.pack(rows))


def _without(ids: Sequence[int], place: slice, first: int) -> list[int]:
    return [*ids[: place.start - first], *ids[place.stop - first :]]
