"""A picture of what a model restores: original, masked input and restoration side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sen_toolbox.visualization.drawing import (
    GAP,
    GREY,
    MARGIN,
    RULE,
    WHITE,
    draw_text,
    line_height,
    wrap_text,
)

_TITLE_SIZE, _TEXT_SIZE, _SMALL_SIZE = 20, 15, 13
_COLUMNS = {'original': 'original', 'masked': 'masked input', 'restored': 'restoration'}


def draw_restoration_board(
    rows: Sequence[Mapping[str, Any]],
    *,
    height: int = 192,
    caption_width: int = 300,
    title: str = 'Text-guided restoration',
) -> Image.Image:
    """Draw one row per image: the original, what the model saw of it, and what it made of that.

    Images are scaled to one height and keep their proportions.

    Args:
        rows: Each with 'original', 'masked' and 'restored' (uint8 arrays of one shape (H, W, 3),
            RGB) and, if there is one, 'caption' (text).
        height: Rows of a drawn image in pixels, from 48 up.
        caption_width: Room for the captions in pixels; no column if no row has a caption.
        title: Heading.

    Raises:
        ValueError: If there are no rows, if an array is of another kind, or if a size is too small.
    """
    if not rows:
        raise ValueError('there are no rows to draw')
    if height < 48 or caption_width < 100:
        raise ValueError(
            f'height must be at least 48 and caption_width at least 100, got {height}, '
            f'{caption_width}'
        )
    for index, row in enumerate(rows):
        _check(row, index)

    widths = [_scaled_width(row['original'].shape, height) for row in rows]
    # A column is never narrower than its title.
    column = max(*widths, 90)
    captioned = any(row.get('caption') for row in rows)
    captions_left = MARGIN + len(_COLUMNS) * (column + GAP) + GAP
    width = captions_left + caption_width if captioned else captions_left - 2 * GAP
    titles_top = MARGIN + line_height(_TITLE_SIZE) + GAP
    images_top = titles_top + line_height(_SMALL_SIZE)
    row_height = height + 2 * GAP
    size = (width + MARGIN, images_top + len(rows) * row_height + MARGIN)
    board = Image.new('RGB', size, WHITE)
    draw = ImageDraw.Draw(board)

    heading = wrap_text(title, size=_TITLE_SIZE, width=width - MARGIN, max_lines=1)[0]
    draw_text(draw, (MARGIN, MARGIN), heading, size=_TITLE_SIZE)
    for slot, text in enumerate(_COLUMNS.values()):
        middle = MARGIN + slot * (column + GAP) + column // 2
        draw_text(draw, (middle, titles_top), text, size=_SMALL_SIZE, fill=GREY, anchor='ma')

    for index, row in enumerate(rows):
        top = images_top + index * row_height
        draw.line((MARGIN, top, width, top), fill=RULE)
        top += GAP
        for slot, name in enumerate(_COLUMNS):
            image = Image.fromarray(row[name])
            image = image.resize((widths[index], height), _filter(image.height, height))
            left = MARGIN + slot * (column + GAP) + (column - image.width) // 2
            board.paste(image, (left, top))
        if row.get('caption'):
            lines = wrap_text(
                row['caption'],
                size=_TEXT_SIZE,
                width=caption_width,
                max_lines=height // line_height(_TEXT_SIZE),
            )
            for number, line in enumerate(lines):
                corner = (captions_left, top + number * line_height(_TEXT_SIZE))
                draw_text(draw, corner, line, size=_TEXT_SIZE)
    return board


def _check(row: Mapping[str, Any], index: int) -> None:
    for name in _COLUMNS:
        image = row[name]
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = getattr(image, 'dtype', type(image).__name__)
            raise ValueError(f'row {index}: {name!r} must be a uint8 array, got {kind}')
        if image.ndim != 3 or image.shape[2] != 3 or image.shape != row['original'].shape:
            raise ValueError(
                f"row {index}: {name!r} must be (H, W, 3) and of the original's shape "
                f'{row["original"].shape}, got {image.shape}'
            )


def _scaled_width(shape: tuple[int, ...], height: int) -> int:
    return max(1, round(height * shape[1] / shape[0]))


def _filter(rows: int, drawn_rows: int) -> Image.Resampling:
    """Sharp squares when enlarging, so that the mask's patches stay visible."""
    return Image.Resampling.NEAREST if rows < drawn_rows else Image.Resampling.LANCZOS
