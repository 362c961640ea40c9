"""Stacks samples of a pipeline into the batch that a model takes."""

from collections.abc import Sequence

import torch

from sen_toolbox.registry import FUNCTIONS

# One row a caption, not one an image.
PER_CAPTION = ('tokens', 'word_labels')


@FUNCTIONS.register_module()
def collate_pairs(samples: Sequence[dict]) -> dict:
    """Joins packed samples; the captions of all images follow each other in one tensor.

    Args:
        samples: What ``PackPair`` returns: ``images`` (3, H, W) uint8, ``tokens`` (n, L) int64
            with n free, ``pids`` int, and its extras.

    Returns:
        ``images`` (B, 3, H, W), ``tokens`` (sum of n, L), ``pids`` (B,) and ``num_captions`` (B,),
        which says how many rows of ``tokens`` belong to each image. Of the extras, ``word_labels``
        is joined as ``tokens`` are, all others are stacked.

    Raises:
        ValueError: If the images differ in size.
    """
    sizes = {sample['images'].shape for sample in samples}
    if len(sizes) > 1:
        raise ValueError(
            'images of one batch must have one size, got (rows, columns) '
            f'{sorted(tuple(size[1:]) for size in sizes)}: put ResizeImage into the pipeline'
        )
    batch = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        if key == 'images':
            # In the order of memory, which torch would otherwise change pixel by pixel.
            batch[key] = torch.stack([image.permute(1, 2, 0) for image in values]).permute(
                0, 3, 1, 2
            )
        elif key in PER_CAPTION:
            batch[key] = torch.cat(values)
        elif torch.is_tensor(values[0]):
            batch[key] = torch.stack(values)
        else:
            batch[key] = torch.tensor(values)
    batch['num_captions'] = torch.tensor([len(sample['tokens']) for sample in samples])
    return batch
