"""How a message shows a text that somebody else has chosen, such as the name of a file."""

import unicodedata

# Longest piece of such a text, in characters.
LONGEST = 2000
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


def one_line(text: object) -> str:
    r"""What several lines say, in one of at most ``LONGEST`` characters, printable.

    >>> one_line('a\tname\x1b[31m\nand more')
    'a name\\x1b[31m and more'
    """
    line = printable(' '.join(str(text).split()))
    return line if len(line) <= LONGEST else f'{line[:LONGEST]} ...'


def error_line(error: BaseException) -> str:
    """What is wrong, in one line.

    >>> error_line(KeyError('there is no such head')), error_line(KeyError('format'))
    ('there is no such head', "there is no 'format' in what was read (KeyError)")
    """
    text = str(error)
    if 'Traceback (most recent call last)' in text:
        # Of a process that loads data; its last line is the error there.
        last = text.rstrip().splitlines()[-1]
        return one_line(last.partition(': ')[2] or last)
    if isinstance(error, KeyError):
        # Its text is in quotation marks: a sentence, or only the key that is missing somewhere.
        text = str(error.args[0]) if error.args else ''
        if ' ' not in text:
            text = f'there is no {text!r} in what was read (KeyError)'
    return one_line(text) or type(error).__name__


def shown(value: object, length: int = 100) -> str:
    """A value as an error shows it: in one line, its middle left out if it is long.

    Args:
        value: Whatever a file holds.
        length: Characters, about.

    >>> shown('a\\n' * 2)
    "'a\\\\na\\\\n'"
    >>> shown('x' * 5000, length=10)
    "'xxxx ... xxxx'"
    """
    try:
        text = ' '.join(line.strip() for line in repr(value).splitlines())
    # Lists within lists that no call can follow.
    except RecursionError:
        return f'a {type(value).__name__} that is nested too deeply'
    return text if len(text) <= length else f'{text[: length // 2]} ... {text[-length // 2 :]}'
