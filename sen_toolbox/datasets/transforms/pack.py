"""The end of every pipeline."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from sen_toolbox.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackPair(BaseTransform):
    """Turns a record into exactly what a model takes; nothing else passes to the batch.

    Takes ``img`` (H, W, 3) uint8, ``tokens`` (n, L) int64 and ``pid``; returns ``images``
    (3, H, W) uint8, ``tokens`` and ``pids``.
    """

    def transform(self, results: dict) -> dict:
        """Returns the packed sample."""
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        return {
            'images': torch.from_numpy(image),
            'tokens': torch.from_numpy(results['tokens']),
            'pids': results['pid'],
        }
