"""Augmentations by torchvision's operations, and further views of an image."""

import inspect
from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose
from torch import nn
from torchvision.transforms import v2

from sen_toolbox.registry import TRANSFORMS


@TRANSFORMS.register_module()
class TorchvisionOps(BaseTransform):
    """Applies operations of ``torchvision.transforms.v2`` to ``img``.

    ``img`` stays uint8: what an operation computes is rounded. Randomness is torch's.

    Args:
        ops: Operations in order, as configs: ``type`` is a name in ``torchvision.transforms.v2``,
            the rest its arguments. Operations that take others (``RandomApply``,
            ``RandomChoice``) have them as configs in ``transforms``; ``interpolation`` is a name
            such as 'bicubic'.

    Raises:
        KeyError: If torchvision has no such operation.
    """

    changes = frozenset({'img'})
    looks_up = frozenset({'ops'})

    def __init__(self, *, ops: Sequence[dict]) -> None:
        self.ops = v2.Compose([_build_op(op) for op in ops])

    def transform(self, results: dict) -> dict:
        """Changes ``img``, uint8 (H, W, 3)."""
        image = torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1)))
        results['img'] = self.ops(image).permute(1, 2, 0).numpy()
        return results


def _build_op(config: dict) -> nn.Module:
    arguments = dict(config)
    name = arguments.pop('type')
    op = getattr(v2, name, None)
    if not (inspect.isclass(op) and issubclass(op, nn.Module)):
        known = [key for key, value in vars(v2).items() if inspect.isclass(value)]
        raise KeyError(f'torchvision.transforms.v2 has no operation {name!r}; it has {known}')
    if 'transforms' in arguments:
        arguments['transforms'] = [_build_op(part) for part in arguments['transforms']]
    if 'interpolation' in arguments:
        arguments['interpolation'] = v2.InterpolationMode(arguments['interpolation'])
    return op(**arguments)


@TRANSFORMS.register_module()
class MakeViews(BaseTransform):
    """Makes further views of ``img``; ``img`` itself stays.

    Args:
        views: One pipeline of transforms of ``img`` for each view, as configs.

    Raises:
        ValueError: If there is none.
    """

    changes = frozenset({'views'})

    def __init__(self, *, views: Sequence[Sequence[dict]]) -> None:
        if not views:
            raise ValueError('views is empty: give one pipeline for each view')
        self.views = [Compose([TRANSFORMS.build(step) for step in steps]) for steps in views]

    def transform(self, results: dict) -> dict:
        """Adds ``views``, uint8 (V, 3, H, W).

        Raises:
            ValueError: If the views differ in size.
        """
        views = [view({'img': results['img']})['img'].transpose(2, 0, 1) for view in self.views]
        sizes = [view.shape[1:] for view in views]
        if len(set(sizes)) > 1:
            raise ValueError(f'views must have one size, got (rows, columns) {sizes}')
        results['views'] = np.stack(views)
        return results
