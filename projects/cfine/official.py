"""Names of the official CFine checkpoints, to ours and back."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

# What a checkpoint holds, and how the names of its weights begin here.
ENTRIES = {'network': 'network.', 'W': 'W', 'optimizer': None, 'epoch': None}
NECK, CLASSES = 'heads.groups.neck.', 'heads.groups.classifier.weight'
TABLE = (
    ('network.image_model.clip_model.', 'backbone.image.'),
    ('network.language_model.textExtractor.', 'backbone.text.'),
    ('network.block.layers.0.', f'{NECK}block.'),
    ('network.bottleneck_image.', f'{NECK}image_norm.'),
    ('network.bottleneck_text.', f'{NECK}text_norm.'),
    ('W', CLASSES),
)
UNUSED = ('network.language_model.textExtractor.pooler.',)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official checkpoint, in float32."""
    ours = rename(used_tensors(state, UNUSED), TABLE)
    return {k: v.t().contiguous() if k == CLASSES else v for k, v in ours.items()}


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`, without BERT's pooler, which the release does not use."""
    official = rename(state, inverse(TABLE))
    if torch.is_tensor(official.get('W')):
        official['W'] = official['W'].t()
    return official
