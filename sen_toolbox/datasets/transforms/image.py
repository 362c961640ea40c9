"""Transforms of the image; it stays uint8 (rows, columns, RGB) throughout."""

from io import BytesIO
from math import inf
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from mmcv.transforms import BaseTransform
from PIL import Image

from sen_toolbox.checks import checked_at_least, checked_share
from sen_toolbox.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Reads ``img_path`` into ``img``: Pillow's pixels, RGB in any case, not rotated by EXIF.

    OpenCV is not an alternative: it returns half a JPEG without complaint. MMCV's Pillow reader
    turns images by their EXIF tag, which the SEN and IRRA releases do not.
    """

    deterministic = True

    def transform(self, results: dict) -> dict:
        """Adds ``img``, uint8 (H, W, 3).

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file cannot be decoded; names it.
        """
        path = results['img_path']
        try:
            results['img'] = _decode(Path(path).read_bytes())
        except FileNotFoundError:
            raise
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            # Pillow raises each of these, depending on the format and on where the damage is.
            raise ValueError(
                f'cannot decode image {path} ({error}): copy the file again or remove its record'
            ) from error
        return results


def _decode(data: bytes) -> np.ndarray:
    # simplejpeg runs the same libjpeg-turbo without Pillow's copies. It refuses whatever is odd
    # about a file; then, and for other formats, Pillow has the last word.
    try:
        rows, columns, space, _ = simplejpeg.decode_jpeg_header(data)
        # Pillow converts CMYK by a formula of its own, and warns of huge images.
        if space in ('YCbCr', 'RGB', 'Gray') and rows * columns <= (Image.MAX_IMAGE_PIXELS or inf):
            return simplejpeg.decode_jpeg(data, 'RGB')
    except ValueError:
        pass
    with Image.open(BytesIO(data)) as image:
        # Converting would copy an image that is RGB already.
        return np.array(image if image.mode == 'RGB' else image.convert('RGB'))


@TRANSFORMS.register_module()
class ResizeImage(BaseTransform):
    """Resizes ``img`` with Pillow's antialiased bilinear filter, as the SEN and IRRA releases do.

    torchvision's, on uint8 tensors, differs by one grey level here and there.

    Args:
        size: (rows, columns) in pixels; the aspect ratio is not kept.

    Raises:
        ValueError: If ``size`` is not two positive numbers.
    """

    deterministic = True

    def __init__(self, size: tuple[int, int]) -> None:
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f'size is (rows, columns) in pixels, got {size}')
        self.size = tuple(size)

    def transform(self, results: dict) -> dict:
        """Changes ``img``."""
        rows, columns = self.size
        image = Image.fromarray(results['img']).resize((columns, rows), Image.Resampling.BILINEAR)
        results['img'] = np.array(image)
        return results


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Mirrors ``img`` left and right, with the draws of MMCV's transform of this name.

    MMCV's returns a view with its columns reversed, which is slow to copy.

    Args:
        prob: Probability, in 0..1.

    Raises:
        ValueError: If ``prob`` is not in 0..1.
    """

    def __init__(self, prob: float) -> None:
        self.prob = checked_share('prob', prob)

    def transform(self, results: dict) -> dict:
        """Changes ``img``."""
        if np.random.random_sample() < self.prob:
            results['img'] = cv2.flip(results['img'], 1)
        return results


@TRANSFORMS.register_module()
class PadCrop(BaseTransform):
    """Shifts ``img``: pads all sides with black and cuts a random part of the old size.

    Args:
        padding: Pixels on each side. The SEN and IRRA releases use 10.

    Raises:
        ValueError: If ``padding`` is negative.
    """

    def __init__(self, padding: int = 10) -> None:
        self.padding = checked_at_least('padding', padding, 0)

    def draw_offset(self) -> tuple[int, int]:
        """Returns the upper left corner of the part, (row, column) in the padded image."""
        # Not randint, which is slower.
        places = 2 * self.padding + 1
        return int(np.random.random_sample() * places), int(np.random.random_sample() * places)

    def transform(self, results: dict) -> dict:
        """Shifts ``img``, which becomes a view of the padded one."""
        img = results['img']
        rows, columns = img.shape[:2]
        top, left = self.draw_offset()
        padded = cv2.copyMakeBorder(img, *[self.padding] * 4, cv2.BORDER_CONSTANT)
        results['img'] = padded[top : top + rows, left : left + columns]
        return results
