"""Transforms of the image; it stays uint8 (rows, columns, RGB) throughout."""

import mmcv.transforms
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from sen_toolbox.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Reads ``img_path`` with Pillow into ``img``, RGB in any case, not rotated by EXIF.

    OpenCV is not an alternative: it returns half a JPEG without complaint. MMCV's Pillow reader
    turns images by their EXIF tag, which the SEN and IRRA releases do not.
    """

    def transform(self, results: dict) -> dict:
        """Adds ``img``, uint8 (H, W, 3).

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file cannot be decoded; names it.
        """
        path = results['img_path']
        try:
            with Image.open(path) as image:
                results['img'] = np.array(image.convert('RGB'))
        except FileNotFoundError:
            raise
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            # Pillow raises each of these, depending on the format and on where the damage is.
            raise ValueError(
                f'cannot decode image {path} ({error}): copy the file again or remove its record'
            ) from error
        return results


@TRANSFORMS.register_module()
class ResizeImage(mmcv.transforms.Resize):
    """Resizes ``img`` with Pillow's antialiased bilinear filter, as the SEN and IRRA releases do.

    Args:
        size: (rows, columns) in pixels; the aspect ratio is not kept.

    Raises:
        ValueError: If ``size`` is not two positive numbers.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f'size is (rows, columns) in pixels, got {size}')
        rows, columns = size
        super().__init__(scale=(columns, rows), backend='pillow')


@TRANSFORMS.register_module()
class PadCrop(BaseTransform):
    """Shifts ``img``: pads all sides with black and cuts a random part of the old size.

    Args:
        padding: Pixels on each side. The SEN and IRRA releases use 10.

    Raises:
        ValueError: If ``padding`` is negative.
    """

    def __init__(self, padding: int = 10) -> None:
        if padding < 0:
            raise ValueError(f'padding is a number of pixels, got {padding}')
        self.padding = padding

    def draw_offset(self) -> tuple[int, int]:
        """Returns the upper left corner of the part, (row, column) in the padded image."""
        row, column = np.random.randint(0, 2 * self.padding + 1, size=2)
        return int(row), int(column)

    def transform(self, results: dict) -> dict:
        """Shifts ``img``."""
        pad = self.padding
        rows, columns = results['img'].shape[:2]
        padded = np.pad(results['img'], ((pad, pad), (pad, pad), (0, 0)))
        top, left = self.draw_offset()
        results['img'] = padded[top : top + rows, left : left + columns]
        return results
