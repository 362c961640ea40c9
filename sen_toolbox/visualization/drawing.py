"""What the boards share: colours, text that fits its box, marks, stacking."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

from PIL import Image, ImageDraw, ImageFont

from sen_toolbox.pictures import read_image

WHITE = (255, 255, 255)
INK = (33, 37, 41)
GREY = (120, 126, 133)
RULE = (222, 226, 230)
CELL = (241, 243, 245)
# Green and red of clearly different lightness; marks repeat what the colours say.
RIGHT = (0, 158, 96)
WRONG = (200, 30, 45)

MARGIN = 24
GAP = 10
# Heights of letters, in pixels.
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 20, 15, 13

_ELLIPSIS = '…'
_PLAIN = str.maketrans({'\u2013': '-', '\u2014': '-', '\u2212': '-', '\u00d7': 'x'})
_OVERSAMPLING = 4


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, which is the same on every machine; size in pixels."""
    # Where a size is given, Pillow gives no other kind of font.
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size=size))


def line_height(size: int) -> int:
    """Distance between two lines of text of a size, in pixels."""
    ascent, descent = font(size).getmetrics()
    return ascent + descent + max(2, size // 5)


@lru_cache(maxsize=4096)
def _has_glyph(character: str) -> bool:
    face = font(16)
    return bytes(face.getmask(character)) != bytes(face.getmask('\uffff'))


def printable(text: str) -> str:
    r"""Text in the characters that the font can draw.

    Accents and invisible characters are dropped, white space becomes single spaces, and each
    character without a glyph becomes a question mark.

    >>> printable('a caf\u00e9\n by \u5317')
    'a cafe by ?'
    """
    text = ' '.join(unicodedata.normalize('NFKD', text).translate(_PLAIN).split())
    visible = (char for char in text if unicodedata.category(char) not in ('Mn', 'Me', 'Cf', 'Cc'))
    return ''.join(char if char == ' ' or _has_glyph(char) else '?' for char in visible)


def wrap_text(text: str, *, size: int, width: int, max_lines: int) -> list[str]:
    """Break text into lines that fit, with an ellipsis where the last line cuts it.

    Args:
        text: Any characters; see :func:`printable`.
        size: Font size in pixels.
        width: Room for a line in pixels. A longer word is broken.
        max_lines: At most so many lines, from 1 up.
    """
    measure = font(size).getlength
    lines = ['']
    for word in printable(text).split():
        joined = f'{lines[-1]} {word}' if lines[-1] else word
        if measure(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append('')
        for char in word:
            if lines[-1] and measure(lines[-1] + char) > width:
                lines.append('')
            lines[-1] += char
    if len(lines) > max_lines:
        last = lines[max_lines - 1]
        while last and measure(last + _ELLIPSIS) > width:
            last = last[:-1]
        lines = [*lines[: max_lines - 1], last.rstrip(' ,.;:') + _ELLIPSIS]
    return lines


def draw_text(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    *,
    size: int,
    fill: tuple[int, int, int] = INK,
    anchor: str = 'la',
) -> None:
    """Write one line of printable text; corner is (x, y), anchor as in Pillow."""
    draw.text(corner, text, font=font(size), fill=fill, anchor=anchor)


def draw_title(draw: ImageDraw.ImageDraw, title: str, width: int) -> None:
    """Write the heading of a board in its corner, one line cut to a width in pixels."""
    line = wrap_text(title, size=TITLE_SIZE, width=width, max_lines=1)[0]
    draw_text(draw, (MARGIN, MARGIN), line, size=TITLE_SIZE)


def paste_mark(board: Image.Image, corner: tuple[int, int], *, right: bool, size: int) -> None:
    """Paste a disc with a tick (right) or a cross (wrong), `size` pixels wide, at (x, y)."""
    big = size * _OVERSAMPLING
    mark = Image.new('RGBA', (big, big))
    draw = ImageDraw.Draw(mark)
    draw.ellipse((0, 0, big - 1, big - 1), fill=(*WHITE, 255))
    rim = big // 12
    draw.ellipse((rim, rim, big - 1 - rim, big - 1 - rim), fill=RIGHT if right else WRONG)
    if right:
        strokes = [[(0.27, 0.53), (0.44, 0.69), (0.74, 0.35)]]
    else:
        strokes = [[(0.32, 0.32), (0.68, 0.68)], [(0.68, 0.32), (0.32, 0.68)]]
    for stroke in strokes:
        points = [(x * big, y * big) for x, y in stroke]
        draw.line(points, fill=WHITE, width=big // 9, joint='curve')
    mark = mark.resize((size, size), Image.Resampling.LANCZOS)
    board.paste(mark, corner, mark)


def stack_boards(boards: Sequence[Image.Image]) -> Image.Image:
    """Put pictures below one another, left-aligned on white.

    Raises:
        ValueError: If there is no picture.
    """
    if not boards:
        raise ValueError('there are no boards to stack')
    width = max(board.width for board in boards)
    stacked = Image.new('RGB', (width, sum(board.height for board in boards)), WHITE)
    top = 0
    for board in boards:
        stacked.paste(board, (0, top))
        top += board.height
    return stacked


def read_picture(path: str) -> Image.Image:
    """A picture of the data set, RGB and upright.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it cannot be decoded; names the file.
    """
    try:
        return Image.fromarray(read_image(path))
    except ValueError as error:
        raise ValueError(f'cannot decode image {path} ({error})') from error
