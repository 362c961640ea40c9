"""Colour words of a caption, exchanged for others."""

import re

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
