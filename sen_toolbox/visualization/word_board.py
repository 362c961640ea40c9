"""A picture of which regions of an image the words of a caption speak to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sen_toolbox.checks import checked_at_least
from sen_toolbox.visualization.drawing import (
    GAP,
    GREY,
    INK,
    MARGIN,
    RULE,
    SMALL_SIZE,
    TEXT_SIZE,
    TITLE_SIZE,
    WHITE,
    draw_text,
    draw_title,
    line_height,
    wrap_text,
)

_CAPTION_LINES = 2
# From faint to strong; lightness falls as strength grows, so that grey prints tell it too.
_RAMP = np.array([(255, 236, 160), (253, 160, 60), (215, 30, 40)], dtype=np.float64)


def draw_word_board(
    rows: Sequence[Mapping[str, Any]], *, height: int = 192, title: str = 'Words and regions'
) -> Image.Image:
    """Draw one row per image and caption: the image, and for each word a heat map over it.

    Colours run from nothing (grey) to the strongest value of the row (red), so that the words of a
    row can be compared; values below 0 are not coloured.

    Args:
        rows: Each with 'image' (uint8 (H, W, 3), RGB), 'caption' (none if it is that of the row
            above), 'label' (what the maps are) and 'words': (word, map) or (word, map, number)
            each, the map an array (rows, columns).
        height: Rows of a drawn image in pixels, from 48 up.
        title: Heading.

    Raises:
        ValueError: If there are no rows, a row has no words, or the height is too small.
    """
    if not rows:
        raise ValueError('there are no rows to draw')
    checked_at_least('height', height, 48)
    for index, row in enumerate(rows):
        if not row['words']:
            raise ValueError(f'row {index} has no words')
    widths = [round(height * row['image'].shape[1] / row['image'].shape[0]) for row in rows]
    column = max(*widths, 84) + GAP
    most = max(len(row['words']) for row in rows)
    caption_height = _CAPTION_LINES * line_height(TEXT_SIZE)
    picture_height = height + 2 * line_height(SMALL_SIZE) + GAP
    top = MARGIN + line_height(TITLE_SIZE) + GAP
    width = 2 * MARGIN + (1 + most) * column
    captioned = sum(bool(row['caption']) for row in rows)
    total = top + captioned * (caption_height + 2 * GAP) + len(rows) * picture_height + MARGIN
    board = Image.new('RGB', (width, total), WHITE)
    draw = ImageDraw.Draw(board)
    draw_title(draw, title, width - 2 * MARGIN)

    for row, image_width in zip(rows, widths, strict=True):
        if row['caption']:
            draw.line((MARGIN, top, width - MARGIN, top), fill=RULE)
            lines = wrap_text(
                row['caption'], size=TEXT_SIZE, width=width - 2 * MARGIN, max_lines=_CAPTION_LINES
            )
            for number, line in enumerate(lines):
                place = (MARGIN, top + GAP + number * line_height(TEXT_SIZE))
                draw_text(draw, place, line, size=TEXT_SIZE)
            top += caption_height + 2 * GAP
        size = (image_width, height)
        strongest = max(float(np.max(word[1])) for word in row['words'])
        cells = [(row['label'], Image.fromarray(row['image']), '')]
        for word, values, *number in row['words']:
            picture = _overlay(row['image'], np.asarray(values) / max(strongest, 1e-12), size)
            cells.append((word, picture, f'{number[0]:+.3f}' if number else ''))
        for slot, (text, picture, value) in enumerate(cells):
            left = MARGIN + slot * column
            board.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, top))
            middle, below = left + image_width // 2, top + height + 2
            fill = INK if slot else GREY
            label = wrap_text(text, size=SMALL_SIZE, width=column - 4, max_lines=1)[0]
            draw_text(draw, (middle, below), label, size=SMALL_SIZE, fill=fill, anchor='ma')
            below += line_height(SMALL_SIZE)
            draw_text(draw, (middle, below), value, size=SMALL_SIZE, fill=GREY, anchor='ma')
        top += picture_height
    return board


def _overlay(image: np.ndarray, strength: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """The image in pale grey with a map, 1 where it is strongest, as colour over it."""
    pixels = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), np.float64)
    pixels = pixels.mean(axis=2, keepdims=True) * 0.65 + 80
    heat = Image.fromarray(strength.clip(0, 1).astype(np.float32))
    values = np.asarray(heat.resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    places = np.linspace(0, 1, len(_RAMP))
    colour = np.stack([np.interp(values, places, channel) for channel in _RAMP.T], axis=2)
    share = (0.85 * values**0.6)[..., None]
    return Image.fromarray((pixels * (1 - share) + colour * share).clip(0, 255).astype(np.uint8))
