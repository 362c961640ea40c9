"""Reads and resizes the image; it stays uint8 (rows, columns, RGB) throughout."""

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from sen_toolbox.messages import printable
from sen_toolbox.pictures import read_image
from sen_toolbox.registry import TRANSFORMS

# A larger picture, which a model file could ask for, takes all memory.
LARGEST_SIDE = 10_000
FILTERS = {'bilinear': Image.Resampling.BILINEAR, 'bicubic': Image.Resampling.BICUBIC}


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Reads ``img_path`` into ``img``: Pillow's pixels, RGB in any case, upright by the EXIF tag.

    OpenCV is not an alternative: it returns half a JPEG without complaint. The SEN and IRRA
    releases ignore the tag; here training and search see a picture alike.
    """

    deterministic = True
    changes = frozenset({'img'})
    reads_file = True

    def transform(self, results: dict) -> dict:
        """Adds ``img``, uint8 (H, W, 3).

        Raises:
            OSError: If the file cannot be read, as if there is none.
            ValueError: If it cannot be decoded; names it.
        """
        path = results['img_path']
        try:
            results['img'] = read_image(path)
        except ValueError as error:
            raise ValueError(
                f'cannot decode image {printable(str(path))} ({error}): copy the file again or '
                'remove its record'
            ) from error
        return results


@TRANSFORMS.register_module()
class ResizeImage(BaseTransform):
    """Resizes ``img`` with an antialiased filter of Pillow's.

    torchvision's, on uint8 tensors, differs by one grey level here and there.

    Args:
        size: (rows, columns) in pixels, each in 1..10,000; the aspect ratio is not kept.
        filter: 'bilinear', as the SEN and IRRA releases have it, or 'bicubic'.

    Raises:
        ValueError: If ``size`` is not two such numbers, or there is no such filter.
    """

    deterministic = True
    changes = frozenset({'img'})

    def __init__(self, size: tuple[int, int], filter: str = 'bilinear') -> None:
        if filter not in FILTERS:
            raise ValueError(f'filter is one of {", ".join(FILTERS)}, got {filter!r}')
        self.filter = filter
        if len(size) != 2 or min(size) < 1 or max(size) > LARGEST_SIDE:
            raise ValueError(f'size is (rows, columns) in 1..{LARGEST_SIDE} pixels, got {size}')
        self.size = tuple(size)

    def transform(self, results: dict) -> dict:
        """Changes ``img``."""
        rows, columns = self.size
        image = Image.fromarray(results['img']).resize((columns, rows), FILTERS[self.filter])
        results['img'] = np.array(image)
        return results


@TRANSFORMS.register_module()
class CropMiddle(BaseTransform):
    """Resizes ``img`` until its shorter side fits a square and cuts the square from the middle.

    What CLIP was trained on; of a person who stands it leaves the middle third. Pixels are those of
    torchvision's ``Resize`` and ``CenterCrop`` on Pillow's images.

    Args:
        side: Of the square, in 1..10,000 pixels.
        filter: 'bicubic' or 'bilinear'.

    Raises:
        ValueError: If there is no such side or filter.
    """

    deterministic = True
    changes = frozenset({'img'})

    def __init__(self, side: int, filter: str = 'bicubic') -> None:
        if filter not in FILTERS:
            raise ValueError(f'filter is one of {", ".join(FILTERS)}, got {filter!r}')
        if not 1 <= side <= LARGEST_SIDE:
            raise ValueError(f'side is in 1..{LARGEST_SIDE} pixels, got {side}')
        self.side, self.filter = side, filter

    def transform(self, results: dict) -> dict:
        """Changes ``img``.

        Raises:
            ValueError: If it is so narrow that it would take all memory.
        """
        rows, columns = results['img'].shape[:2]
        longer = int(self.side * max(rows, columns) / min(rows, columns))
        if longer > 10 * LARGEST_SIDE:
            raise ValueError(f'is too narrow to cut a square: {columns} x {rows} pixels')
        size = (self.side, longer) if columns <= rows else (longer, self.side)
        image = Image.fromarray(results['img']).resize(size, FILTERS[self.filter])
        left, top = (int(round((length - self.side) / 2)) for length in size)
        results['img'] = np.array(image.crop((left, top, left + self.side, top + self.side)))
        return results
