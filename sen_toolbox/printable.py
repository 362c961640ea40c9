"""Foreign text, such as the name of a file, made fit to be shown."""

import unicodedata

# Control characters, lone surrogates, line ends, and marks without a shape, which turn the
# direction of text around.
_HIDDEN = frozenset({'Cc', 'Cf', 'Cs', 'Zl', 'Zp'})
# Marks without a shape that some scripts spell words with.
_JOINERS = '\u200c\u200d'


def printable(text: str) -> str:
    r"""A text in one line with its control characters written out, as Python writes them.

    A terminal obeys such characters: they move the cursor, rename the window, or show another
    name than a file has.

    >>> printable('a\x1b[2Jb\nc.jpg')
    'a\\x1b[2Jb\\nc.jpg'
    """
    return ''.join(
        character.encode('unicode_escape').decode()
        if unicodedata.category(character) in _HIDDEN and character not in _JOINERS
        else character
        for character in text
    )
