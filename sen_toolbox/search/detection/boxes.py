"""People found in an image: what every detector returns, and how boxes compare."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np

Box = tuple[int, int, int, int]


class Detection(NamedTuple):
    """A person in an image.

    Attributes:
        box: x0, y0, x1, y1 in pixels; x1 and y1 are the first beyond the person.
        score: The detector's own, higher for surer.
    """

    box: Box
    score: float


class Detector(Protocol):
    """What finds people.

    Attributes:
        name: Differs for detectors that find differently.
    """

    name: str

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """The people in an RGB image (H, W, 3) uint8, within its bounds."""


def clip_box(edges: Iterable[float], size: tuple[int, int]) -> Box:
    """A box x0, y0, x1, y1 in whole pixels, within an image (rows, columns); may be empty."""
    x0, y0, x1, y1 = edges
    rows, columns = size
    left, right = (min(max(round(x), 0), columns) for x in (x0, x1))
    top, bottom = (min(max(round(y), 0), rows) for y in (y0, y1))
    return left, top, right, bottom


def area(box: Box) -> int:
    """Pixels in a box; 0 if it is empty."""
    x0, y0, x1, y1 = box
    return max(x1 - x0, 0) * max(y1 - y0, 0)


def iou(box: Box, other: Box) -> float:
    """Shared pixels over those of both, 0..1; boxes are not empty."""
    shared = _shared(box, other)
    return shared / (area(box) + area(other) - shared)


def drop_doubles(detections: Iterable[Detection], limit: float) -> list[Detection]:
    """The surest detection of each person, surest first.

    Args:
        detections: None of them empty.
        limit: Two are of one person if they share more than this part, 0..1, of the smaller box:
            unlike the IoU this also sees a box within a larger one.
    """
    kept: list[Detection] = []
    for found in sorted(detections, key=lambda found: (-found.score, found.box)):
        smaller = (min(area(found.box), area(other.box)) for other in kept)
        shared = (_shared(found.box, other.box) for other in kept)
        if all(part <= limit * whole for part, whole in zip(shared, smaller, strict=True)):
            kept.append(found)
    return kept


def _shared(box: Box, other: Box) -> int:
    x0, y0 = map(max, box[:2], other[:2])
    x1, y1 = map(min, box[2:], other[2:])
    return area((x0, y0, x1, y1))
