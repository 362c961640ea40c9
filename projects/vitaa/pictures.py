"""Segmentations beside pictures, and pixels in the order of the release."""

import os
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from projects.vitaa.attributes import PARTS
from sen_toolbox.messages import printable
from sen_toolbox.pictures import read_labels
from sen_toolbox.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadSegmentation(BaseTransform):
    """Reads ``segmentation``, uint8 (rows, columns): 0 background, then 1 more than the part.

    The file is ``<folder>/<path of the image>.png`` below the data set's folder, with a palette or
    in greys. For training alone: ``PackPair(per_image=['segmentation'])`` puts it into the batch.

    Args:
        data_root: The data set's folder.
        image_size: Of the image that the model sees, (rows, columns).
        stride: What each side is divided by.
        folder: Where segmentations are.
        images: Where images are.
    """

    changes = frozenset({'segmentation'})

    def __init__(
        self,
        *,
        data_root: str,
        image_size: tuple[int, int],
        stride: int = 8,
        folder: str = 'segs',
        images: str = 'imgs',
    ) -> None:
        self.images, self.folder = Path(data_root, images), Path(data_root, folder)
        self.size = tuple(side // stride for side in image_size)

    def transform(self, results: dict) -> dict:
        """Adds ``segmentation``.

        Raises:
            FileNotFoundError: If there is no such file; says what does without.
            ValueError: If it cannot be read or has other labels; names it.
        """
        name = Path(os.path.relpath(results['img_path'], self.images)).with_suffix('.png')
        path = self.folder / name
        shown = printable(str(path))
        try:
            labels = read_labels(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'there is no segmentation {shown}: put those of the release there, or train '
                'without them by vitaa_words_r50_cuhk.py'
            ) from error
        except ValueError as error:
            raise ValueError(f'cannot read the segmentation {shown} ({error})') from error
        if labels.max(initial=0) > len(PARTS):
            raise ValueError(
                f'the segmentation {shown} has the label {labels.max()}, known are 0 (background) '
                f'to {len(PARTS)} ({", ".join(PARTS)})'
            )
        rows, columns = self.size
        resized = Image.fromarray(labels).resize((columns, rows), Image.Resampling.NEAREST)
        results['segmentation'] = np.array(resized)
        return results


@TRANSFORMS.register_module()
class ReverseChannels(BaseTransform):
    """Turns RGB into BGR, as the release feeds weights that were made for RGB."""

    deterministic = True
    changes = frozenset({'img'})

    def transform(self, results: dict) -> dict:
        """Changes ``img``."""
        results['img'] = np.ascontiguousarray(results['img'][:, :, ::-1])
        return results
