"""Stacks samples of a pipeline into the batch that a model takes."""

from collections.abc import Sequence

import numpy as np
import torch

from sen_toolbox.registry import FUNCTIONS
from sen_toolbox.text.tokens import Tokens, joined


@FUNCTIONS.register_module()
def collate_pairs(samples: Sequence[dict]) -> dict:
    """Joins packed samples; the captions of all images follow each other.

    Args:
        samples: What ``PackPair`` returns.

    Returns:
        ``images`` (B, 3, H, W) uint8, ``tokens`` of T captions, and by name what the samples hold
        per image, (B, ...), and per caption, (T, ...). Where not every image has one caption,
        ``image_of`` (T,) is the image of each.

    Raises:
        ValueError: If the images differ in size.
    """
    sizes = {sample['images'].shape for sample in samples}
    if len(sizes) > 1:
        raise ValueError(
            'images of one batch must have one size, got (rows, columns) '
            f'{sorted(tuple(size[1:]) for size in sizes)}: put ResizeImage into the pipeline'
        )
    # In the order of memory, which torch would otherwise change pixel by pixel.
    pixels = torch.stack([sample['images'].permute(1, 2, 0) for sample in samples])
    tokens = [sample['tokens'] for sample in samples]
    batch = {
        'images': pixels.permute(0, 3, 1, 2),
        'tokens': joined(tokens, torch.cat),
    }
    counts = [len(part) for part in tokens]
    if set(counts) != {1}:
        batch['image_of'] = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    for key in samples[0]['per_image']:
        batch[key] = _stacked([sample['per_image'][key] for sample in samples])
    for key in samples[0]['per_caption']:
        rows = [sample['per_caption'][key] for sample in samples]
        batch[key] = joined(rows, torch.cat) if isinstance(rows[0], Tokens) else torch.cat(rows)
    return batch


def _stacked(values: list) -> torch.Tensor:
    return torch.stack(values) if torch.is_tensor(values[0]) else torch.from_numpy(np.array(values))
