"""A map of embeddings: people as colours, images as discs, captions as diamonds."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from sen_toolbox.checks import checked_at_least
from sen_toolbox.visualization.drawing import (
    GAP,
    GREY,
    MARGIN,
    RULE,
    SMALL_SIZE,
    TITLE_SIZE,
    WHITE,
    draw_text,
    draw_title,
    line_height,
    read_picture,
)

# Okabe and Ito's colours, which colour-blind readers tell apart, and four more.
PALETTE = [
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (120, 94, 240),
    (60, 60, 60),
    (160, 120, 60),
    (190, 20, 80),
    (120, 190, 30),
    (0, 90, 90),
]
_THUMB = (84, 42)
_RADIUS = 7
_OVERSAMPLING = 3


def principal_plane(images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, float]:
    """Puts embeddings on the plane in which they vary most (principal components).

    Images and captions lie apart in the joint space (the modality gap), which no ranking sees, as
    it is the same for all; so each kind is centred on its own mean first.

    Args:
        images: Image embeddings (I, D).
        texts: Text embeddings (T, D).

    Returns:
        Places (I, 2) and (T, 2), and the share of the variance, in 0..1, that the plane shows.
    """
    centred = torch.cat([part.double() - part.double().mean(dim=0) for part in (images, texts)])
    _, singular, axes = torch.linalg.svd(centred, full_matrices=False)
    # The sign of an axis is arbitrary; its largest entry is made positive.
    axes = axes[:2] * axes[:2].gather(1, axes[:2].abs().argmax(dim=1, keepdim=True)).sign()
    places = centred @ axes.T
    variance = singular.square()
    share = float(variance[:2].sum() / variance.sum().clamp_min(1e-12))
    return places[: len(images)], places[len(images) :], share


def draw_embedding_map(
    images: Tensor,
    image_ids: Sequence[int],
    texts: Tensor,
    text_ids: Sequence[int],
    thumbnails: dict[int, str],
    *,
    size: int = 640,
    title: str = 'Embeddings of identities',
) -> Image.Image:
    """Draw the images and captions of some people where their embeddings lie.

    Args:
        images: Image embeddings (I, D).
        image_ids: Identity of each image.
        texts: Text embeddings (T, D).
        text_ids: Identity of each caption.
        thumbnails: One image file of each identity, at most 12.
        size: Side of the map in pixels, at least 200.
        title: Heading.

    Raises:
        ValueError: If there are fewer than 2 identities or more than there are colours, or the map
            is too small.
    """
    if not 2 <= len(thumbnails) <= len(PALETTE):
        raise ValueError(f'a map shows 2 to {len(PALETTE)} identities, got {len(thumbnails)}')
    checked_at_least('size', size, 200)
    colours = dict(zip(thumbnails, PALETTE, strict=False))
    image_places, text_places, share = principal_plane(images, texts)
    header = MARGIN + line_height(TITLE_SIZE) + line_height(SMALL_SIZE) + GAP
    cell_height, cell_width = _THUMB[0] + 8 + GAP, _THUMB[1] + 8 + GAP
    per_column = max(1, size // cell_height)
    legend_columns = -(-len(thumbnails) // per_column)
    width = MARGIN + size + 2 * GAP + legend_columns * cell_width + MARGIN
    board = Image.new('RGB', (width, header + size + MARGIN), WHITE)
    draw = ImageDraw.Draw(board)
    draw_title(draw, title, width - 2 * MARGIN)
    note = f'discs: images, diamonds: captions; this plane shows {share:.0%} of the variance'
    draw_text(draw, (MARGIN, MARGIN + line_height(TITLE_SIZE)), note, size=SMALL_SIZE, fill=GREY)
    board.paste(
        _plane(image_places, image_ids, text_places, text_ids, colours, size), (MARGIN, header)
    )
    for number, (person_id, path) in enumerate(thumbnails.items()):
        left = MARGIN + size + 2 * GAP + number // per_column * cell_width
        top = header + number % per_column * cell_height
        picture = read_picture(path)
        thumb = ImageOps.pad(picture, (_THUMB[1], _THUMB[0]), color=WHITE)
        board.paste(ImageOps.expand(thumb, border=4, fill=colours[person_id]), (left, top))
    return board


def _plane(
    images: Tensor,
    image_ids: Sequence[int],
    texts: Tensor,
    text_ids: Sequence[int],
    colours: dict[int, tuple[int, int, int]],
    size: int,
) -> Image.Image:
    """The map itself, drawn large and shrunk for smooth edges."""
    big = size * _OVERSAMPLING
    radius = _RADIUS * _OVERSAMPLING
    both = torch.cat([images, texts])
    low, high = both.min(dim=0).values, both.max(dim=0).values
    # One scale for both axes, so that distances are those of the plane.
    scale = (big - 6 * radius) / float((high - low).max().clamp_min(1e-12))
    middle = (low + high) / 2
    plane = Image.new('RGB', (big, big), WHITE)
    draw = ImageDraw.Draw(plane)
    draw.rectangle((0, 0, big - 1, big - 1), outline=RULE, width=_OVERSAMPLING)
    groups = ((text_ids, texts, 4, radius * 1.15), (image_ids, images, 0, radius))
    for person_ids, places, corners, reach in groups:
        for person_id, place in zip(person_ids, places, strict=True):
            x, y = ((place - middle) * scale + big / 2).tolist()
            fill = colours[person_id]
            if corners:
                draw.regular_polygon((x, y, reach), corners, rotation=45, fill=fill, outline=WHITE)
            else:
                box = (x - reach, y - reach, x + reach, y + reach)
                draw.ellipse(box, fill=fill, outline=WHITE, width=_OVERSAMPLING)
    return plane.resize((size, size), Image.Resampling.LANCZOS)
