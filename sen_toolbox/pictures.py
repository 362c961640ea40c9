"""Decodes image files, for training and search alike; torch is not loaded."""

import logging
import os
from io import BytesIO
from math import inf

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from sen_toolbox.io import read_regular

# Pillow knows more, some of which run other programs: Ghostscript for PostScript, whatever the
# file is called.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'AVIF')
# It logs some of what it raises, too, without the name of the file.
logging.getLogger('PIL').setLevel(logging.CRITICAL)
# Beyond any picture that a camera takes.
MAX_BYTES = 500_000_000
# What a JPEG that says how to turn it holds before its pixels.
EXIF = b'Exif\0\0'


def read_image(path: str | os.PathLike, max_pixels: float = inf) -> np.ndarray:
    """Pixels of an image file, as :func:`decode_image` gives them.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a regular file of sensible size or cannot be decoded; says why,
            without the path.
    """
    return decode_image(read_regular(path, MAX_BYTES), max_pixels)


def read_labels(path: str | os.PathLike) -> np.ndarray:
    """Labels (H, W) uint8 of a picture with a palette or of greys: its indices, no colours.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it cannot be decoded or is a picture in colours; says why, without the path.
    """
    data = read_regular(path, MAX_BYTES)
    try:
        with open_image(data) as opened:
            mode, labels = opened.mode, np.array(opened)
    # As in decode_image.
    except Exception as error:
        raise ValueError(' '.join(f'{type(error).__name__}: {error}'.split())) from error
    if mode not in ('P', 'L'):
        raise ValueError(f'its pixels are {mode}, not labels: save it with a palette or in greys')
    return labels


def decode_image(data: bytes, max_pixels: float = inf) -> np.ndarray:
    """Pixels (H, W, 3) uint8 RGB, turned upright by the EXIF tag where there is one.

    Args:
        data: Content of a file of one of ``FORMATS``; of several frames the first is taken.
        max_pixels: Larger images are refused before they are decoded.

    Raises:
        ValueError: If it cannot be decoded, whatever the decoder raises; says why, in one line.
    """
    try:
        return _decoded(data, max_pixels)
    # A decoder raises what its code happens to run into: ZeroDivisionError, struct.error,
    # NotImplementedError, MemoryError, ...
    except Exception as error:
        text = ' '.join(str(error).split())
        kind = type(error).__name__
        raise ValueError(
            text if type(error) is ValueError else f'{kind}: {text}' if text else kind
        ) from error


def open_image(data: bytes) -> Image.Image:
    """A picture as Pillow opens it: the only place where it does, and only ``FORMATS``.

    Raises:
        Exception: Whatever Pillow raises; ValueError if the content is none of these formats.
    """
    try:
        return Image.open(BytesIO(data), formats=_decodable())
    except UnidentifiedImageError as error:
        # Its message names a buffer by its address.
        raise ValueError(f'not one of {", ".join(_decodable())}') from error


def _decodable() -> tuple[str, ...]:
    """The formats that this Pillow was built for."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _decoded(data: bytes, max_pixels: float) -> np.ndarray:
    # simplejpeg runs the same libjpeg-turbo without Pillow's copies. It refuses files with
    # anything odd; those, and other formats, Pillow decodes.
    try:
        rows, columns, space, _ = simplejpeg.decode_jpeg_header(data)
        # Pillow converts CMYK by a formula of its own, and warns of huge images.
        fits = rows * columns <= min(Image.MAX_IMAGE_PIXELS or inf, max_pixels)
        if space in ('YCbCr', 'RGB', 'Gray') and fits and EXIF not in data[:65536]:
            return simplejpeg.decode_jpeg(data, 'RGB')
    except ValueError:
        pass
    with open_image(data) as opened:
        if opened.width * opened.height > max_pixels:
            raise ValueError(
                f'{opened.width} x {opened.height} pixels, which is more than {max_pixels}'
            )
        image = ImageOps.exif_transpose(opened)
        # Converting would copy an image that is RGB already.
        return np.array(image if image.mode == 'RGB' else image.convert('RGB'))
