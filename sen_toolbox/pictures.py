"""Decodes image files, for training and search alike; torch is not loaded."""

from io import BytesIO
from math import inf

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

# Pillow knows more, some of which run other programs.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF')
# What a JPEG that says how to turn it holds before its pixels.
EXIF = b'Exif\0\0'
# What Pillow raises, depending on the format and on where the damage is.
DAMAGE = (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError)


def decode_image(data: bytes, max_pixels: float = inf) -> np.ndarray:
    """Pixels (H, W, 3) uint8 RGB, turned upright by the EXIF tag where there is one.

    Args:
        data: Content of a JPEG, PNG, WebP, BMP, TIFF or GIF file; of several frames the first.
        max_pixels: Larger images are refused before they are decoded.

    Raises:
        OSError, SyntaxError, EOFError, ValueError, PIL.Image.DecompressionBombError: If it cannot
            be decoded; ``DAMAGE`` holds them.
    """
    # simplejpeg runs the same libjpeg-turbo without Pillow's copies. It refuses whatever is odd
    # about a file; then, and for other formats, Pillow has the last word.
    try:
        rows, columns, space, _ = simplejpeg.decode_jpeg_header(data)
        # Pillow converts CMYK by a formula of its own, and warns of huge images.
        fits = rows * columns <= min(Image.MAX_IMAGE_PIXELS or inf, max_pixels)
        if space in ('YCbCr', 'RGB', 'Gray') and fits and EXIF not in data[:65536]:
            return simplejpeg.decode_jpeg(data, 'RGB')
    except ValueError:
        pass
    try:
        opened = Image.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        # Its message names a buffer by its address.
        raise ValueError(f'not one of {", ".join(FORMATS)}') from error
    with opened:
        if opened.width * opened.height > max_pixels:
            raise ValueError(
                f'{opened.width} x {opened.height} pixels, which is more than {max_pixels}'
            )
        image = ImageOps.exif_transpose(opened)
        # Converting would copy an image that is RGB already.
        return np.array(image if image.mode == 'RGB' else image.convert('RGB'))
