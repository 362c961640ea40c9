"""How a message shows a text that somebody else has chosen."""

# Longest piece of such a text, in characters.
LONGEST = 2000


def one_line(text: object) -> str:
    """A text as one line, without characters that a terminal would obey.

    >>> one_line('a\\tname\\x1b[31m\\nand more')
    'a name [31m and more'
    """
    line = ''.join(c if c.isprintable() else ' ' for c in str(text).strip())
    return line if len(line) <= LONGEST else f'{line[:LONGEST]} ...'
