"""Names of the weights of several releases that compare a ResNet's parts with an LSTM's.

They hold a ``network``, and a classifier for each level, ``WL`` and ``WN``. That of the whole,
``WG``, they forget to save; ours has it on the way back.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

# What a checkpoint holds, and how the names of its weights begin here.
ENTRIES = {
    'network': 'network.',
    'WL': 'WL.',
    'WN': 'WN.',
    'WG': 'WG.',
    'test_best': None,
    'epoch': None,
}
MAY_LACK = ('WG',)
NECK = 'heads.parts.neck.'
# Official prefix, our prefix.
TABLE = (
    ('network.ImageExtract.0.', 'backbone.image.conv1.'),
    ('network.ImageExtract.1.', 'backbone.image.bn1.'),
    ('network.ImageExtract.4.', 'backbone.image.layer1.'),
    ('network.ImageExtract.5.', 'backbone.image.layer2.'),
    ('network.ImageExtract.6.', 'backbone.image.layer3.'),
    ('network.ImageExtract.7.', 'backbone.image.layer4.'),
    ('network.TextExtract.embedding_global.', 'backbone.text.word_embedding.'),
    ('network.TextExtract.embedding_local.', 'backbone.text.local_embedding.'),
    ('network.TextExtract.lstm.', 'backbone.text.rnn.'),
    ('network.conv_word_classifier.0.', f'{NECK}word_part.'),
    # Those below are of layers with a copy for each part, {} there; here they are one tensor.
    ('network.conv_global.block.0.', f'{NECK}whole.'),
    ('network.conv_local.{}.block.0.', f'{NECK}part.'),
    ('network.non_local_net.part_sim_conv.{}.block.0.', f'{NECK}non_local.key.'),
    ('network.non_local_net.cur_sim_conv.{}.block.0.', f'{NECK}non_local.query.'),
    ('network.non_local_net.up_dim_conv.{}.block.0.', f'{NECK}non_local.widen.'),
    ('network.non_local_net.up_dim_conv.{}.block.1.', f'{NECK}non_local.norm.'),
    ('network.non_local_net.conv_local_att.{}.block.0.', f'{NECK}non_local.project.'),
    ('WG.W.{}.block.', 'heads.parts.classifiers.whole.'),
    ('WL.W.{}.block.', 'heads.parts.classifiers.local.'),
    ('WN.W.{}.block.', 'heads.parts.classifiers.non_local.'),
)
WHOLE, NORM, COUNT = f'{NECK}whole.weight', f'{NECK}non_local.norm.', 'num_batches_tracked'
PART = re.compile(r'^(network\.(?:conv_local|non_local_net\.\w+)|W[GLN]\.W)\.(\d+)\.(?=block)')


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames official tensors, in float32, and joins those of all parts.

    Args:
        state: Tensors of ``network``, ``WG``, ``WL`` and ``WN`` under these prefixes; without
            ``WG`` that classifier, which search does not use, is zeros.

    Raises:
        ValueError: Names the keys that the table does not know, or a layer whose parts are not
            numbered from 0 on.
    """
    joined: dict[str, dict[int, Tensor]] = {}
    state = used_tensors(state)
    if not any(key.startswith('WG.') for key in state):
        # A part has as many numbers as the whole.
        first = [key for key in state if key.startswith('WL.W.0.block.')]
        state |= {key.replace('WL', 'WG'): torch.zeros_like(state[key]) for key in first}
    for key, value in state.items():
        part = PART.match(key)
        copies = joined.setdefault(PART.sub(r'\1.{}.', key), {})
        number = int(part[2]) if part else 0
        if number in copies:
            raise ValueError(f'{key} is there twice, under two names')
        copies[number] = value
    for name, copies in joined.items():
        if max(copies) >= len(copies):
            raise ValueError(f'{name} has the parts {sorted(copies)}, expected 0, 1, 2, ...')
    ours = rename({key: torch.stack([v[n] for n in sorted(v)]) for key, v in joined.items()}, TABLE)
    return {key: _joined(key, value) for key, value in ours.items()}


def _joined(key: str, copies: Tensor) -> Tensor:
    """Our tensor of the stacked official ones of all parts."""
    if key.startswith(NORM):
        return copies[0] if key.endswith(COUNT) else copies.flatten()
    if key == f'{NECK}word_part.weight':
        return copies[0].flatten(1)
    if key.startswith('heads.'):
        return copies.flatten(3).squeeze(3) if copies.ndim == 5 else copies
    return copies[0]


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`.

    Args:
        state: State dict of a model of this toolbox, or the part of it that has these parts.
        model: The model; not read.

    Raises:
        ValueError: Names the keys that the table does not know.
    """
    parts = len(state[f'{NECK}part.weight'])
    official = {}
    for name, value in rename(state, inverse(TABLE)).items():
        if name.endswith('.0.weight') and not name.startswith('network.ImageExtract'):
            value = value[..., None, None]
        if '{}' not in name:
            official[name] = value[0] if name.startswith('network.conv_global') else value
        elif name.endswith(COUNT):
            official |= {name.format(part): value.clone() for part in range(parts)}
        else:
            copies = value.chunk(parts) if '.block.1.' in name else value.unbind()
            official |= {name.format(part): copy for part, copy in enumerate(copies)}
    return official
