"""The end of every pipeline."""

from collections.abc import Sequence

import torch
from mmcv.transforms import BaseTransform

from sen_toolbox.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackPair(BaseTransform):
    """Turns a record into exactly what a model takes; nothing else passes to the batch.

    Takes ``img`` (H, W, 3) uint8, ``tokens`` (n, L) int64 and ``pid``; returns ``images``
    (3, H, W) uint8, a view of ``img``, ``tokens`` and ``pids``.

    Args:
        extra: Further keys of the record that the method's heads read, e.g. ``word_labels`` of
            ``MaskWords``.
    """

    def __init__(self, *, extra: Sequence[str] = ()) -> None:
        self.extra = tuple(extra)

    def transform(self, results: dict) -> dict:
        """Returns the packed sample.

        Raises:
            KeyError: If the pipeline made no such extra; lists what it made.
        """
        img = results['img']
        # Views are copied in the batch at the latest; torch takes them unless they run backwards.
        img = img.copy() if min(img.strides) < 0 else img
        packed = {
            # Pixels stay together; the model's preprocessor brings them into planes at once.
            'images': torch.from_numpy(img).permute(2, 0, 1),
            'tokens': torch.from_numpy(results['tokens']),
            'pids': results['pid'],
        }
        for key in self.extra:
            if key not in results:
                raise KeyError(f'PackPair: no {key!r} in the record; it has {sorted(results)}')
            packed[key] = torch.as_tensor(results[key])
        return packed
