"""A picture of what a model finds: captions on the left, the best-ranked images beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from sen_toolbox.checks import checked_at_least
from sen_toolbox.visualization.drawing import (
    CELL,
    GAP,
    GREY,
    MARGIN,
    RIGHT,
    RULE,
    SMALL_SIZE,
    TEXT_SIZE,
    TITLE_SIZE,
    WHITE,
    WRONG,
    draw_text,
    draw_title,
    font,
    line_height,
    paste_mark,
    read_picture,
    wrap_text,
)

_MARK_SIZE = 18
_FRAME = 4


def draw_retrieval_board(
    queries: Sequence[Mapping[str, Any]],
    *,
    thumb: tuple[int, int] = (128, 64),
    topk: int = 10,
    caption_width: int = 280,
    title: str = 'Text-to-image retrieval',
) -> Image.Image:
    """Draw one row per query: its caption and its best images, framed green (right) or red (wrong).

    Images keep their proportions. A tick or a cross repeats the frame's colour. Where it is not
    known who is right, frames are grey.

    Args:
        queries: Each with 'caption' (text), 'image_paths' (files, best first) and, if known,
            'correct' (bools) and 'scores' (floats), one per path. Paths beyond ``topk`` are left
            out; there may be fewer. Where a query has 'sought' (a file) and 'sought_rank' (from
            1), a column before the others shows that image.
        thumb: (rows, columns) of an image's cell in pixels, at least (48, 40).
        topk: Number of columns.
        caption_width: Room for the captions in pixels.
        title: Heading.

    Raises:
        ValueError: If there are no queries, if a query's lists differ in length, or if a size is
            too small.
        FileNotFoundError: If an image does not exist.
    """
    if not queries:
        raise ValueError('there are no queries to draw')
    if thumb[0] < 48 or thumb[1] < 40:
        raise ValueError(f'thumb must be (rows, columns) of at least (48, 40), got {thumb}')
    checked_at_least('topk', topk, 1)
    checked_at_least('caption_width', caption_width, 100)
    for index, query in enumerate(queries):
        _check(query, index)

    cell_height, cell_width = thumb[0] + 2 * _FRAME, thumb[1] + 2 * _FRAME
    sought_left = MARGIN + caption_width + 2 * GAP
    with_sought = any('sought' in query for query in queries)
    images_left = sought_left + with_sought * (cell_width + 3 * GAP)
    header_height = MARGIN + line_height(TITLE_SIZE) + GAP
    label_height = line_height(SMALL_SIZE)
    row_height = GAP + label_height + cell_height + GAP
    width = images_left + topk * cell_width + (topk - 1) * GAP + MARGIN
    # The heading and its legend may need more room than a few narrow columns.
    legend_width = 330
    width = max(width, MARGIN + legend_width + 2 * GAP + caption_width)
    board = Image.new('RGB', (width, header_height + len(queries) * row_height + MARGIN), WHITE)
    draw = ImageDraw.Draw(board)

    draw_title(draw, title, width - 2 * MARGIN - legend_width)
    if any(query.get('correct') for query in queries):
        _draw_legend(board, width - MARGIN, MARGIN + line_height(TITLE_SIZE) // 2)

    for index, query in enumerate(queries):
        top = header_height + index * row_height
        draw.line((MARGIN, top, width - MARGIN, top), fill=RULE)
        top += GAP
        _draw_caption(draw, query, top, row_height - 2 * GAP, caption_width, topk)
        if 'sought' in query:
            corner = (sought_left, top + label_height)
            draw_text(draw, (sought_left, top), 'sought', size=SMALL_SIZE, fill=GREY)
            _paste_framed(board, query['sought'], corner, thumb, right=None)
        scores, correct = query.get('scores'), query.get('correct')
        for rank, path in enumerate(query['image_paths'][:topk]):
            left = images_left + rank * (cell_width + GAP)
            draw_text(draw, (left, top), str(rank + 1), size=SMALL_SIZE)
            if scores is not None:
                score = f'{scores[rank]:.2f}'
                draw_text(
                    draw, (left + cell_width, top), score, size=SMALL_SIZE, fill=GREY, anchor='ra'
                )
            corner = (left, top + label_height)
            right = None if correct is None else bool(correct[rank])
            _paste_framed(board, path, corner, thumb, right=right)
    return board


def _check(query: Mapping[str, Any], index: int) -> None:
    num_paths = len(query['image_paths'])
    for name in ('correct', 'scores'):
        values = query.get(name)
        if values is not None and len(values) != num_paths:
            raise ValueError(
                f'query {index}: {name!r} must hold one value for each of the {num_paths} '
                f'image_paths, got {values!r}'
            )


def _draw_legend(board: Image.Image, right_edge: int, middle: int) -> None:
    """Explain the marks, flush with the right edge."""
    draw = ImageDraw.Draw(board)
    left = right_edge
    for right, text in ((False, 'another person'), (True, 'the right person')):
        left -= int(draw.textlength(text, font=font(SMALL_SIZE)))
        draw_text(draw, (left, middle), text, size=SMALL_SIZE, fill=GREY, anchor='lm')
        left -= _MARK_SIZE + 6
        paste_mark(board, (left, middle - _MARK_SIZE // 2), right=right, size=_MARK_SIZE)
        left -= 2 * GAP


def _draw_caption(
    draw: ImageDraw.ImageDraw,
    query: Mapping[str, Any],
    top: int,
    height: int,
    width: int,
    topk: int,
) -> None:
    """Write the caption, and below it at which rank the first right image is, if known."""
    note_top = top + height - line_height(SMALL_SIZE)
    max_lines = max(1, (note_top - top) // line_height(TEXT_SIZE))
    lines = wrap_text(query['caption'], size=TEXT_SIZE, width=width, max_lines=max_lines)
    for number, line in enumerate(lines):
        draw_text(draw, (MARGIN, top + number * line_height(TEXT_SIZE)), line, size=TEXT_SIZE)
    if query.get('correct') is None:
        return
    shown = query['correct'][:topk]
    hits = [rank for rank, right in enumerate(shown, start=1) if right]
    rank = query.get('sought_rank', hits[0] if hits else None)
    note = f'first right image: rank {rank}' if rank else f'no right image in {len(shown)}'
    fill = GREY if hits else WRONG
    draw_text(draw, (MARGIN, note_top), note, size=SMALL_SIZE, fill=fill)


def _paste_framed(
    board: Image.Image,
    path: str,
    corner: tuple[int, int],
    thumb: tuple[int, int],
    *,
    right: bool | None,
) -> None:
    """Paste an image, centred in its cell, with the frame and the mark that say if it is right."""
    rows, columns = thumb
    image = ImageOps.contain(read_picture(path), (columns, rows))
    cell = Image.new('RGB', (columns, rows), CELL)
    cell.paste(image, ((columns - image.width) // 2, (rows - image.height) // 2))
    frame = {True: RIGHT, False: WRONG, None: RULE}[right]
    framed = ImageOps.expand(cell, border=_FRAME, fill=frame)
    board.paste(framed, corner)
    if right is None:
        return
    mark_corner = (
        corner[0] + framed.width - _MARK_SIZE - _FRAME // 2,
        corner[1] + framed.height - _MARK_SIZE - _FRAME // 2,
    )
    paste_mark(board, mark_corner, right=right, size=_MARK_SIZE)
