"""Stacks samples of a pipeline into the batch that a model takes."""

from collections.abc import Sequence

import torch

from sen_toolbox.registry import FUNCTIONS


@FUNCTIONS.register_module()
def collate_pairs(samples: Sequence[dict]) -> dict:
    """Joins packed samples; the captions of all images follow each other in one tensor.

    Args:
        samples: What ``PackPair`` returns: ``images`` (3, H, W) uint8, ``tokens`` (n, L) int64
            with n free, ``pids`` int.

    Returns:
        ``images`` (B, 3, H, W), ``tokens`` (sum of n, L), ``pids`` (B,) and ``num_captions`` (B,),
        which says how many rows of ``tokens`` belong to each image.

    Raises:
        ValueError: If the images differ in size.
    """
    images = [sample['images'] for sample in samples]
    tokens = [sample['tokens'] for sample in samples]
    sizes = sorted({tuple(image.shape[1:]) for image in images})
    if len(sizes) > 1:
        raise ValueError(
            f'images of one batch must have one size, got (rows, columns) {sizes}: '
            'put ResizeImage into the pipeline'
        )
    return {
        'images': torch.stack(images),
        'tokens': torch.cat(tokens),
        'pids': torch.tensor([sample['pids'] for sample in samples]),
        'num_captions': torch.tensor([len(rows) for rows in tokens]),
    }
