"""Colour words of a caption: found, and exchanged for others."""

import functools
import re
from collections.abc import Sequence

# Those of descriptions of pedestrians; collected here, from no published list.
COLOUR_WORDS = tuple(
    'black white grey gray silver blue navy teal turquoise red maroon burgundy crimson pink '
    'green olive lime yellow gold golden orange purple violet lavender brown tan beige khaki '
    'cream camel'.split()
)
# What each colour word is exchanged for: one that looks as different as can be.
OPPOSITES = {
    'red': 'green',
    'green': 'red',
    'blue': 'orange',
    'orange': 'blue',
    'yellow': 'purple',
    'purple': 'yellow',
    'pink': 'green',
    'black': 'white',
    'white': 'black',
    'grey': 'red',
    'gray': 'red',
    'brown': 'blue',
    'beige': 'blue',
}
# Hair is small, and seldom green.
_WORD = re.compile(rf'\b({"|".join(OPPOSITES)})\b(?! (?:hair|ponytail))', re.IGNORECASE)


def exchange_colour(caption: str) -> str:
    """The caption with its first colour word, of hair apart, exchanged for a very different one.

    A caption without such a word stays as it is.

    >>> exchange_colour('A man with black hair in a red coat and red shoes.')
    'A man with black hair in a green coat and red shoes.'
    """
    return _WORD.sub(lambda found: OPPOSITES[found[0].lower()], caption, count=1)


def divide_at_words(text: str, words: Sequence[str] = COLOUR_WORDS) -> list[tuple[str, bool]]:
    """The text in pieces, and whether each is one of some words, in any case.

    >>> divide_at_words('A Red coat.')
    [('A ', False), ('Red', True), (' coat.', False)]
    """
    pieces = _any_of(tuple(words)).split(text)
    return [(piece, place % 2 == 1) for place, piece in enumerate(pieces) if piece]


@functools.cache
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf'\b({"|".join(map(re.escape, words))})\b', re.IGNORECASE)
