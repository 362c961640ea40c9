"""Mirrors and shifts the image and what belongs to it."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from sen_toolbox.checks import checked_at_least, checked_share
from sen_toolbox.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Mirrors ``img`` left and right, with the draws of MMCV's transform of this name.

    MMCV's returns a view with its columns reversed, which is slow to copy.

    Args:
        prob: Probability, in 0..1.
        also: Keys of further arrays (H, W) or (H, W, C) that are mirrored with it.

    Raises:
        ValueError: If ``prob`` is not in 0..1.
    """

    changes = frozenset({'img'})

    def __init__(self, prob: float, also: Sequence[str] = ()) -> None:
        self.prob = checked_share('prob', prob)
        self.keys = ('img', *also)

    def transform(self, results: dict) -> dict:
        """Changes ``img`` and the others."""
        if np.random.random_sample() < self.prob:
            for key in self.keys:
                results[key] = cv2.flip(results[key], 1)
        return results


@TRANSFORMS.register_module()
class PadCrop(BaseTransform):
    """Shifts ``img``: pads all sides with black and cuts a random part of the old size.

    Args:
        padding: Pixels on each side. The SEN and IRRA releases use 10.
        also: Keys of further arrays (H, W) or (H, W, C) that are shifted with it.

    Raises:
        ValueError: If ``padding`` is negative.
    """

    changes = frozenset({'img'})

    def __init__(self, padding: int = 10, also: Sequence[str] = ()) -> None:
        self.padding = checked_at_least('padding', padding, 0)
        self.keys = ('img', *also)

    def draw_offset(self) -> tuple[int, int]:
        """Returns the upper left corner of the part, (row, column) in the padded image."""
        # Not randint, which is slower.
        places = 2 * self.padding + 1
        return int(np.random.random_sample() * places), int(np.random.random_sample() * places)

    def transform(self, results: dict) -> dict:
        """Shifts ``img`` and the others, which become views of the padded ones."""
        rows, columns = results['img'].shape[:2]
        top, left = self.draw_offset()
        side = self.padding
        for key in self.keys:
            padded = cv2.copyMakeBorder(results[key], side, side, side, side, cv2.BORDER_CONSTANT)
            results[key] = padded[top : top + rows, left : left + columns]
        return results
