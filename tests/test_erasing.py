"""Random erasing of a whole batch, compared with torchvision's, image by image."""

import math

import pytest
import torch
from torchvision.transforms import RandomErasing

from sen_toolbox.models.preprocessor import (
    ERASED_AREA,
    ERASED_ASPECT,
    ERASING_ATTEMPTS,
    erased_rectangles,
)

pytestmark = pytest.mark.numeric

DRAWS = 3000


def boxes(masks):
    """(n, 4) top, left, height and width of the rectangles in masks (n, H, W); checks them."""
    rows, columns = masks.any(2), masks.any(1)
    height, width = rows.sum(1), columns.sum(1)
    assert torch.equal(masks.sum((1, 2)), height * width)
    return torch.stack([rows.int().argmax(1), columns.int().argmax(1), height, width], 1)


def ours(size, count=DRAWS, prob=1.0):
    masks = erased_rectangles(torch.zeros(count, 3, *size), prob)
    assert masks.shape == (count, 1, *size)
    return masks[:, 0]


def torchvisions(size):
    image = torch.zeros(3, *size)
    drawn = [RandomErasing.get_params(image, ERASED_AREA, ERASED_ASPECT, [1.0])
             for _ in range(DRAWS)]  # fmt: skip
    # Where nothing fits, torchvision returns the whole image and erases nothing.
    return torch.tensor([(i, j, h, w) if (h, w) != size else (0, 0, 0, 0)
                         for i, j, h, w, _ in drawn])  # fmt: skip


def kolmogorov_smirnov(one, other):
    """Largest distance of two distribution functions; ties are allowed."""
    values = torch.cat([one, other]).unique()
    functions = [
        torch.searchsorted(x.sort().values, values, right=True) / len(x) for x in (one, other)
    ]
    return (functions[0] - functions[1]).abs().max().item()


@pytest.mark.parametrize('size', [(96, 32), (24, 72), (9, 3)])
def test_area_aspect_and_place_are_distributed_as_torchvisions(size):
    torch.manual_seed(0)
    pairs = boxes(ours(size)).double(), torchvisions(size).double()
    # Exceeded by equal distributions once in a million tests.
    limit = math.sqrt(-math.log(1e-6 / 2) / 2) * math.sqrt(2 / DRAWS)
    for read in (
        lambda b: b[:, 2] * b[:, 3],
        lambda b: b[:, 2] / b[:, 3].clamp(min=0.1),
        lambda b: b[:, 2],
        lambda b: b[:, 3],
        lambda b: b[:, 0],
        lambda b: b[:, 1],
        # Places within the room that the rectangle leaves.
        lambda b: b[:, 0] / (size[0] - b[:, 2]).clamp(min=1),
        lambda b: b[:, 1] / (size[1] - b[:, 3]).clamp(min=1),
    ):
        assert kolmogorov_smirnov(read(pairs[0]), read(pairs[1])) < limit


def test_the_distance_of_other_distributions_is_above_the_limit():
    torch.manual_seed(0)
    one, other = boxes(ours((96, 32))).double(), boxes(ours((96, 24))).double()
    limit = math.sqrt(-math.log(1e-6 / 2) / 2) * math.sqrt(2 / DRAWS)
    assert kolmogorov_smirnov(one[:, 1], other[:, 1]) > limit


def test_where_no_rectangle_fits_nothing_is_erased():
    """One row: every height is at least one, never below one."""
    torch.manual_seed(0)
    assert not ours((1, 200)).any()
    assert ERASING_ATTEMPTS == 10


def test_the_probability_is_kept_and_a_seed_gives_the_same_rectangles():
    torch.manual_seed(0)
    first = ours((64, 32), prob=0.25)
    erased = first.flatten(1).any(1).sum()
    assert abs(erased - 0.25 * DRAWS) < 5 * (0.25 * 0.75 * DRAWS) ** 0.5
    torch.manual_seed(0)
    assert torch.equal(ours((64, 32), prob=0.25), first)
    assert not torch.equal(ours((64, 32), prob=0.25), first)
