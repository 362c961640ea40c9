"""Decodes image files, for training and search alike; torch is not loaded."""

from io import BytesIO
from math import inf

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

# Pillow knows more, some of which run other programs.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF')
# What a JPEG that says how to turn it holds before its pixels.
EXIF = b'Exif\0\0'
# What Pillow raises, depending on the format and on where the damage is.
DAMAGE = (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError)


def decode_image(data: bytes) -> np.ndarray:
    """Pixels (H, W, 3) uint8 RGB, turned upright by the EXIF tag where there is one.

    Args:
        data: Content of a JPEG, PNG, WebP, BMP, TIFF or GIF file; of several frames the first.

    Raises:
        OSError, SyntaxError, EOFError, ValueError, PIL.Image.DecompressionBombError: If it cannot
            be decoded; ``DAMAGE`` holds them.
    """
    # simplejpeg runs the same libjpeg-turbo without Pillow's copies. It refuses whatever is odd
    # about a file; then, and for other formats, Pillow has the last word.
    try:
        rows, columns, space, _ = simplejpeg.decode_jpeg_header(data)
        # Pillow converts CMYK by a formula of its own, and warns of huge images.
        fits = rows * columns <= (Image.MAX_IMAGE_PIXELS or inf)
        if space in ('YCbCr', 'RGB', 'Gray') and fits and EXIF not in data[:65536]:
            return simplejpeg.decode_jpeg(data, 'RGB')
    except ValueError:
        pass
    with Image.open(BytesIO(data), formats=FORMATS) as opened:
        image = ImageOps.exif_transpose(opened)
        # Converting would copy an image that is RGB already.
        return np.array(image if image.mode == 'RGB' else image.convert('RGB'))
