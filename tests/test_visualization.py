import numpy as np
import pytest
from PIL import Image

from sen_toolbox.visualization import (
    draw_illustration_board,
    draw_retrieval_board,
    drawing,
    stack_boards,
)
from sen_toolbox.visualization.drawing import RIGHT, RULE, WHITE, WRONG, font, printable, wrap_text

BLUE = (20, 40, 250)
LONG = 'A man with a grey jacket, 😀 trousers and — perhaps — a café bag. ' * 30


@pytest.fixture
def blue_image(tmp_path):
    def save(rows=128, columns=64):
        path = tmp_path / f'{rows}x{columns}.png'
        Image.new('RGB', (columns, rows), BLUE).save(path)
        return str(path)

    return save


def query(path, correct, caption='a woman in red', **more):
    return dict(caption=caption, image_paths=[path] * len(correct), correct=correct, **more)


def boxes_of(board, colour):
    """(left, top, right, bottom) of each horizontal run of columns that hold a colour."""
    hits = (np.asarray(board) == colour).all(axis=2)
    columns = np.flatnonzero(hits.any(axis=0))
    runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1) if len(columns) else []
    boxes = []
    for run in runs:
        rows = np.flatnonzero(hits[:, run].any(axis=1))
        boxes.append((run[0], rows[0], run[-1] + 1, rows[-1] + 1))
    return boxes


def test_right_images_are_framed_green_and_wrong_ones_red_in_rank_order(blue_image):
    correct = [False, True, True, False]
    board = np.asarray(draw_retrieval_board([query(blue_image(), correct)]))
    cells = boxes_of(board, BLUE)
    assert len(cells) == 4
    for (left, top, right, _), is_right in zip(cells, correct, strict=True):
        frame = RIGHT if is_right else WRONG
        for offset in range(1, 5):
            assert (board[top - offset, left:right] == frame).all()
            assert (board[top : top + 60, left - offset] == frame).all()
        assert (board[top - 5, left:right] != frame).any()
        assert tuple(board[top + 20, left - 5]) == WHITE


def test_an_image_fills_its_cell_of_rows_by_columns(blue_image):
    board = draw_retrieval_board([query(blue_image(96, 80), [True])], thumb=(96, 80))
    ((left, top, right, bottom),) = boxes_of(board, BLUE)
    assert (bottom - top, right - left) == (96, 80)


def test_an_image_of_another_shape_keeps_its_proportions_in_the_middle(blue_image):
    tall = draw_retrieval_board([query(blue_image(), [True])])
    ((left, top, right, bottom),) = boxes_of(tall, BLUE)
    wide = draw_retrieval_board([query(blue_image(100, 200), [True])])
    ((wide_left, wide_top, wide_right, wide_bottom),) = boxes_of(wide, BLUE)
    assert (wide_left, wide_right) == (left, right)
    assert wide_bottom - wide_top == 32
    assert wide_top - top == bottom - wide_bottom == 48


def test_a_mark_tells_right_from_wrong_without_colour(blue_image):
    boards = [
        np.asarray(draw_retrieval_board([query(blue_image(), [right])])) for right in (True, False)
    ]
    ((left, top, right, bottom),) = boxes_of(boards[0], BLUE)
    corners = [
        (image[bottom - 14 : bottom, right - 14 : right] == WHITE).all(2) for image in boards
    ]
    assert corners[0].any()
    assert corners[1].any()
    assert (corners[0] != corners[1]).any()


def test_only_the_first_k_images_are_drawn_and_fewer_leave_the_rest_white(blue_image):
    path = blue_image()
    board = draw_retrieval_board([query(path, [False] * 12)], topk=10)
    assert len(boxes_of(board, BLUE)) == 10
    fewer = draw_retrieval_board([query(path, [False] * 3)], topk=10)
    assert fewer.size == board.size
    last = boxes_of(fewer, BLUE)[-1]
    beside = np.asarray(fewer)[last[1] : last[3], last[2] + 10 :]
    assert (beside == WHITE).all()


def test_each_query_adds_a_row_of_the_same_height(blue_image):
    path = blue_image()
    heights = [
        draw_retrieval_board([query(path, [True], caption=LONG)] * number).height
        for number in (1, 2, 5)
    ]
    assert heights[2] - heights[1] == 3 * (heights[1] - heights[0])
    assert heights[1] - heights[0] > 128


@pytest.mark.parametrize('caption', [LONG, 'x' * 3000, 'W ' * 2000])
def test_a_long_caption_stays_beside_its_images(blue_image, caption):
    path = blue_image()
    rows = [
        query(path, [True] * 10, caption=caption),
        query(path, [True] * 10, caption=''),
    ]
    board = np.asarray(draw_retrieval_board(rows, caption_width=200))
    short = np.asarray(
        draw_retrieval_board([dict(rows[0], caption=''), rows[1]], caption_width=200)
    )
    changed = (board != short).any(axis=2)
    rows_changed = np.flatnonzero(changed.any(axis=1))
    columns_changed = np.flatnonzero(changed.any(axis=0))
    images = boxes_of(board, BLUE)
    assert columns_changed[0] >= drawing.MARGIN - 1
    assert columns_changed[-1] < min(drawing.MARGIN + 200 + 2, images[0][0])
    # The second query's row, in the lower half of the column of images, is untouched.
    middle = (images[0][1] + images[0][3]) // 2
    assert rows_changed[-1] < middle


def test_scores_are_optional_and_drawn_above_the_images(blue_image):
    path = blue_image()
    plain = draw_retrieval_board([query(path, [True])])
    scored = draw_retrieval_board([query(path, [True], scores=[0.75])])
    changed = np.argwhere((np.asarray(plain) != np.asarray(scored)).any(axis=2))
    ((left, top, right, _),) = boxes_of(plain, BLUE)
    assert len(changed)
    assert changed[:, 0].max() < top
    assert left <= changed[:, 1].min()
    assert changed[:, 1].max() <= right + 6


def test_a_missing_image_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match='nobody.jpg'):
        draw_retrieval_board([query(str(tmp_path / 'nobody.jpg'), [True])])


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(correct=[True]), "query 0: 'correct' .* 2 image_paths"),
        (dict(scores=[0.1]), "query 0: 'scores' .* 2 image_paths"),
    ],
)
def test_lists_of_different_length_are_an_error(blue_image, change, message):
    with pytest.raises(ValueError, match=message):
        draw_retrieval_board([{**query(blue_image(), [True, False]), **change}])


@pytest.mark.parametrize(
    'option', [dict(thumb=(47, 64)), dict(thumb=(64, 39)), dict(topk=0), dict(caption_width=99)]
)
def test_sizes_too_small_to_read_are_an_error(blue_image, option):
    with pytest.raises(ValueError, match='at least'):
        draw_retrieval_board([query(blue_image(), [True])], **option)


@pytest.mark.parametrize('draw', [draw_retrieval_board, draw_illustration_board, stack_boards])
def test_nothing_to_draw_is_an_error(draw):
    with pytest.raises(ValueError, match='there are no'):
        draw([])


def pictures(**columns):
    """A row of a board with these columns."""
    return dict(columns=columns)


def test_what_another_caption_changes_has_a_column_of_its_own():
    red, blue = (np.full((96, 32, 3), c, np.uint8) for c in ((250, 0, 0), BLUE))
    other = dict(title='by wrong caption', columns=dict(painted=blue), caption='a woman')
    row = dict(columns=dict(input=red, painted=red), caption='a man', others=[other])
    board = draw_illustration_board([row], height=192)
    boxes = {colour: boxes_of(board, colour) for colour in ((250, 0, 0), BLUE)}
    ((left, *_),) = boxes[BLUE]
    assert len(boxes[250, 0, 0]) == 2
    assert max(right for _, _, right, _ in boxes[250, 0, 0]) <= left
    with pytest.raises(ValueError, match=r"row 1 has the columns \['input'\], row 0 has"):
        draw_illustration_board([row, pictures(input=red)])


def test_original_masked_input_and_restoration_stand_side_by_side():
    colours = dict(original=(250, 0, 0), masked=(0, 250, 0), restored=(0, 0, 250))
    row = pictures(**{name: np.full((96, 32, 3), c, np.uint8) for name, c in colours.items()})
    board = draw_illustration_board([row, row], height=192)
    edges = []
    for colour in colours.values():
        ((left, top, right, bottom),) = boxes_of(board, colour)
        assert right - left == 64
        assert bottom - top > 2 * 192
        edges.append((left, right))
    assert edges == sorted(edges)
    gaps = [after[0] - before[1] for before, after in zip(edges, edges[1:], strict=False)]
    assert gaps[0] == gaps[1] > 0


def test_patches_stay_square_and_sharp_when_enlarged():
    masked = np.zeros((24, 8, 3), np.uint8)
    masked[:4, :4] = (250, 0, 0)
    row = pictures(original=np.zeros_like(masked), masked=masked, restored=np.zeros_like(masked))
    ((left, top, right, bottom),) = boxes_of(
        draw_illustration_board([row], height=240), (250, 0, 0)
    )
    assert (bottom - top, right - left) == (40, 40)


def test_images_of_different_proportions_share_one_board():
    rows = []
    for rows_, columns in ((128, 64), (60, 60), (300, 100)):
        image = np.full((rows_, columns, 3), BLUE, np.uint8)
        row = pictures(original=image, masked=image, restored=image)
        rows.append(dict(row, caption='a man'))
    boxes = boxes_of(draw_illustration_board(rows, height=120), BLUE)
    assert [right - left for left, _, right, _ in boxes] == [120] * 3


@pytest.mark.parametrize('caption', [LONG, 'x' * 3000])
def test_a_long_caption_stays_beside_its_restoration(caption):
    image = np.full((64, 32, 3), BLUE, np.uint8)
    row = pictures(original=image, masked=image, restored=image)
    boards = [
        np.asarray(
            draw_illustration_board(
                [dict(row, caption=text), dict(row, caption='b')], height=100, caption_width=150
            )
        )
        for text in (caption, 'a')
    ]
    changed = np.argwhere((boards[0] != boards[1]).any(axis=2))
    images = boxes_of(boards[0], BLUE)
    assert changed[:, 1].min() > images[-1][2]
    assert changed[:, 1].max() < boards[0].shape[1] - drawing.MARGIN + 2
    assert changed[:, 0].max() < (images[0][1] + images[0][3]) // 2


def test_captions_take_no_room_where_there_are_none():
    image = np.zeros((64, 32, 3), np.uint8)
    row = pictures(original=image, masked=image, restored=image)
    with_caption = draw_illustration_board([dict(row, caption='a man')], caption_width=300)
    assert with_caption.width - draw_illustration_board([row]).width > 300


@pytest.mark.parametrize(
    'masked, message',
    [
        (np.zeros((8, 8, 3), np.float32), "row 0: 'masked' must be a uint8 array, got float32"),
        (np.zeros((8, 8), np.uint8), "row 0: 'masked' .* got .8, 8."),
        (np.zeros((8, 9, 3), np.uint8), "row 0: 'masked' .*8, 8, 3.* got .8, 9, 3."),
        ([[1]], 'got list'),
    ],
)
def test_an_image_of_another_kind_is_an_error(masked, message):
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=message):
        draw_illustration_board([pictures(original=image, masked=masked, restored=image)])


def test_restoration_sizes_too_small_to_read_are_an_error():
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match='height must be at least 48'):
        draw_illustration_board([pictures(original=image, masked=image, restored=image)], height=10)


def test_boards_are_stacked_left_aligned_on_white():
    stacked = stack_boards([Image.new('RGB', (10, 4), BLUE), Image.new('RGB', (6, 5), RIGHT)])
    assert stacked.size == (10, 9)
    assert boxes_of(stacked, BLUE) == [(0, 0, 10, 4)]
    assert boxes_of(stacked, RIGHT) == [(0, 4, 6, 9)]
    assert boxes_of(stacked, WHITE) == [(6, 4, 10, 9)]


@pytest.mark.parametrize('text', [LONG, 'y' * 500, 'short', '', 'one ' + 'z' * 90 + ' two'])
@pytest.mark.parametrize('max_lines', [1, 3, 50])
def test_wrapped_lines_fit_and_lose_nothing_before_the_ellipsis(text, max_lines):
    lines = wrap_text(text, size=15, width=120, max_lines=max_lines)
    assert 1 <= len(lines) <= max_lines
    assert all(font(15).getlength(line) <= 120 for line in lines)
    whole = printable(text).replace(' ', '')
    joined = ''.join(lines).replace(' ', '')
    if joined.endswith('…'):
        assert len(lines) == max_lines
        assert whole.startswith(joined[:-1])
        assert len(joined) - 1 < len(whole)
    else:
        assert joined == whole


def test_characters_that_the_font_lacks_become_readable():
    assert printable('a\u200d café — “ok” 😀\n北京') == 'a cafe - “ok” ? ??'


def test_frames_are_grey_where_it_is_unknown_who_is_right(blue_image):
    board = draw_retrieval_board([dict(caption='a man', image_paths=[blue_image()])])
    colours = {colour for _, colour in board.getcolors(maxcolors=2**20)}
    assert RULE in colours
    assert RIGHT not in colours
    assert WRONG not in colours
