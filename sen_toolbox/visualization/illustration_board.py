"""A picture of what a head does to images, by right and by other captions, side by side."""

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
    WRONG,
    draw_text,
    draw_title,
    line_height,
    wrap_text,
)

# Of the captions of other people, and of those that differ from the right one in one word.
WRONG_TITLE, EXCHANGED_TITLE = 'by wrong caption', 'by another word'


def draw_illustration_board(
    rows: Sequence[Mapping[str, Any]],
    *,
    height: int = 192,
    caption_width: int = 300,
    title: str = 'What the model makes of an image',
) -> Image.Image:
    """Draw one row per image: what a head shows of it, and what other captions change of that.

    Images are scaled to one height and keep their proportions.

    Args:
        rows: Each with 'columns' (uint8 arrays of one shape (H, W, 3), RGB, by title, the same
            titles in all rows), and, if there are any, 'caption' (text) and 'others': dicts with
            'title', such as ``WRONG_TITLE``, 'columns' (as above) and 'caption'.
        height: Rows of a drawn image in pixels, from 48 up.
        caption_width: Room for the captions in pixels; no column if no row has a caption.
        title: Heading.

    Raises:
        ValueError: If there are no rows, if an array is of another kind, if rows differ in their
            columns, or if a size is too small.
    """
    if not rows:
        raise ValueError('there are no rows to draw')
    checked_at_least('height', height, 48)
    checked_at_least('caption_width', caption_width, 100)
    pictures = [_pictures(row) for row in rows]
    columns = list(pictures[0])
    changed = set(columns) - set(rows[0]['columns'])
    for index, by_title in enumerate(pictures):
        _check(by_title, index, columns)

    widths = [_scaled_width(by_title[columns[0]].shape, height) for by_title in pictures]
    # A column is never narrower than its title.
    column = max(*widths, 106)
    captioned = any(row.get('caption') for row in rows)
    captions_left = MARGIN + len(columns) * (column + GAP) + GAP
    width = captions_left + caption_width if captioned else captions_left - 2 * GAP
    titles_top = MARGIN + line_height(TITLE_SIZE) + GAP
    images_top = titles_top + line_height(SMALL_SIZE)
    row_height = height + 2 * GAP
    size = (width + MARGIN, images_top + len(rows) * row_height + MARGIN)
    board = Image.new('RGB', size, WHITE)
    draw = ImageDraw.Draw(board)

    draw_title(draw, title, width - MARGIN)
    for slot, name in enumerate(columns):
        corner = (MARGIN + slot * (column + GAP) + column // 2, titles_top)
        fill = WRONG if name in changed else GREY
        draw_text(draw, corner, name, size=SMALL_SIZE, fill=fill, anchor='ma')

    for index, row in enumerate(rows):
        top = images_top + index * row_height
        draw.line((MARGIN, top, width, top), fill=RULE)
        top += GAP
        for slot, name in enumerate(columns):
            image = Image.fromarray(pictures[index][name])
            image = image.resize((widths[index], height), _filter(image.height, height))
            left = MARGIN + slot * (column + GAP) + (column - image.width) // 2
            board.paste(image, (left, top))
        texts = [(str(row.get('caption', '')), INK)]
        texts += [(other['caption'], WRONG) for other in row.get('others', ()) if other['caption']]
        share = height // len(texts)
        for number, (text, fill) in enumerate(texts):
            corner = (captions_left, top + number * share)
            max_lines = max(1, share // line_height(TEXT_SIZE))
            _draw_lines(draw, corner, text, caption_width, max_lines, fill)
    return board


def _draw_lines(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    width: int,
    max_lines: int,
    fill: tuple[int, int, int],
) -> None:
    left, top = corner
    lines = wrap_text(text, size=TEXT_SIZE, width=width, max_lines=max_lines)
    for number, line in enumerate(lines):
        place = (left, top + number * line_height(TEXT_SIZE))
        draw_text(draw, place, line, size=TEXT_SIZE, fill=fill)


def _pictures(row: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Pictures of a row by the title of their column."""
    pictures = dict(row['columns'])
    for other in row.get('others', ()):
        alone = len(other['columns']) == 1
        for title, picture in other['columns'].items():
            pictures[other['title'] if alone else f'{title} {other["title"]}'] = picture
    return pictures


def _check(row: Mapping[str, np.ndarray], index: int, columns: Sequence[str]) -> None:
    if list(row) != list(columns):
        raise ValueError(f'row {index} has the columns {list(row)}, row 0 has {list(columns)}')
    shape = np.shape(row[columns[0]])
    for name, image in row.items():
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = getattr(image, 'dtype', type(image).__name__)
            raise ValueError(f'row {index}: {name!r} must be a uint8 array, got {kind}')
        if image.ndim != 3 or image.shape[2] != 3 or image.shape != shape:
            raise ValueError(
                f'row {index}: {name!r} must be (H, W, 3) and of the shape of {columns[0]!r}, '
                f'{shape}, got {image.shape}'
            )


def _scaled_width(shape: tuple[int, ...], height: int) -> int:
    return max(1, round(height * shape[1] / shape[0]))


def _filter(rows: int, drawn_rows: int) -> Image.Resampling:
    """Sharp squares when enlarging, so that the mask's patches stay visible."""
    return Image.Resampling.NEAREST if rows < drawn_rows else Image.Resampling.LANCZOS
