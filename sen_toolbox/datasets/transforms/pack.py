"""The end of every pipeline."""

from collections.abc import Sequence

import torch
from mmcv.transforms import BaseTransform

from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.tokens import Tokens


@TRANSFORMS.register_module()
class PackPair(BaseTransform):
    """Turns a record into exactly what a batch is made of; nothing else passes.

    Takes ``img`` (H, W, 3) uint8, the ``tokens`` of n captions, ``person_id`` and, in training,
    ``label``.

    Args:
        per_image: Further keys of the record that the method's heads or hooks read, one value or
            array per image, e.g. ``views`` of ``MakeViews`` or ``sample_idx``.
        per_caption: Further keys with one row per caption, e.g. ``word_labels`` of ``MaskWords`` or
            the tokens of ``SecondCaption``.
    """

    changes: frozenset[str] = frozenset()

    def __init__(self, *, per_image: Sequence[str] = (), per_caption: Sequence[str] = ()) -> None:
        self.per_image = tuple(per_image)
        self.per_caption = tuple(per_caption)

    def transform(self, results: dict) -> dict:
        """Returns the packed sample.

        Returns:
            ``images`` (3, H, W) uint8, a view of ``img``; ``tokens``; ``per_image``, which holds
            ``person_ids``, ``labels`` in training, and what was asked for; ``per_caption``.

        Raises:
            KeyError: If the pipeline made no such key; lists what it made.
        """
        img = results['img']
        # Views are copied in the batch at the latest; torch takes them unless they run backwards.
        img = img.copy() if min(img.strides) < 0 else img
        per_image = {'person_ids': results['person_id']}
        if 'label' in results:
            per_image['labels'] = results['label']
        return {
            # Pixels stay together; the model's preprocessor brings them into planes at once.
            'images': torch.from_numpy(img).permute(2, 0, 1),
            'tokens': results['tokens'].map(torch.from_numpy),
            'per_image': per_image | self._further(results, self.per_image),
            'per_caption': self._further(results, self.per_caption),
        }

    def _further(self, results: dict, keys: Sequence[str]) -> dict[str, torch.Tensor | Tokens]:
        for key in keys:
            if key not in results:
                raise KeyError(f'PackPair: no {key!r} in the record; it has {sorted(results)}')
        return {key: _as_tensors(results[key]) for key in keys}


def _as_tensors(value: object) -> torch.Tensor | Tokens:
    return value.map(torch.from_numpy) if isinstance(value, Tokens) else torch.as_tensor(value)
