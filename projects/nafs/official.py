"""Names of the official NAFS checkpoints, to ours and back.

The bias before a batch norm is taken off the norm's mean, where it has the same effect; on the way
back it is 0.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

# What a checkpoint holds, and how the names of its weights begin here: ``network`` and ``W``, or
# ``model`` in its rewrite, with W among the weights.
ENTRIES = {'network': '', 'W': 'W', 'model': '', 'optimizer': None, 'epoch': None}
MAY_LACK = ('network', 'W', 'model')
# Official prefix, our prefix.
TABLE = (
    ('image_model.', 'backbone.image.'),
    ('language_model.textExtractor.', 'backbone.text.'),
    ('conv_images.', 'backbone.image_projection.linear.'),
    ('conv_text.', 'backbone.text_projection.linear.'),
    ('bottleneck_image.', 'backbone.image_projection.norm.'),
    ('bottleneck_text.', 'backbone.text_projection.norm.'),
    ('stripes.', 'heads.local.stripes.'),
    ('query.', 'heads.local.query.'),
    ('value.', 'heads.local.value.'),
    ('local_fc_text_key.', 'heads.local.word_key.'),
    ('local_fc_text_value.', 'heads.local.word_value.'),
    ('local_bottleneck_text_key.', 'heads.local.key_norm.'),
    ('local_bottleneck_text_value.', 'heads.local.value_norm.'),
    ('W', 'heads.cmpc.weight'),
)
# Saved and never used; older files have the second one.
UNUSED = (
    'language_model.textExtractor.pooler.',
    'language_model.textExtractor.embeddings.position_ids',
)
PROJECTIONS = {'conv_images': 'bottleneck_image', 'conv_text': 'bottleneck_text'}
# Of each of our layers of parts, the names of the parts.
STRIPES = tuple(
    f'fc_p{branch}_list{{}}.{n}' for branch, count in ((2, 3), (3, 2)) for n in range(count)
)
PARTS = {
    'stripes': tuple(name.format('') for name in STRIPES),
    'query': ('global_image_query', *(name.format('_query') for name in STRIPES)),
    'value': ('global_image_value', *(name.format('_value') for name in STRIPES)),
}
KINDS = ('weight', 'bias')


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official checkpoint, in float32, and joins those of all parts."""
    state = used_tensors(state, UNUSED)
    for projection, norm in PROJECTIONS.items():
        if (weight := f'{projection}.weight') in state:
            state[weight] = state[weight].flatten(1)
        bias, mean = f'{projection}.bias', f'{norm}.running_mean'
        if bias in state and mean in state:
            state[mean] = state[mean] - state.pop(bias)
    for name, parts in PARTS.items():
        for kind in KINDS:
            keys = [f'{part}.{kind}' for part in parts]
            if all(key in state for key in keys):
                state[f'{name}.{kind}'] = torch.stack([state.pop(key) for key in keys])
    if 'W' in state:
        state['W'] = state['W'].t()
    return rename(state, TABLE)


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`, without BERT's pooler, which the release does not use."""
    official = rename(state, inverse(TABLE))
    for name, parts in PARTS.items():
        for kind in KINDS:
            rows = official.pop(f'{name}.{kind}')
            official |= {f'{part}.{kind}': row for part, row in zip(parts, rows, strict=True)}
    for projection in PROJECTIONS:
        weight = official[f'{projection}.weight']
        official[f'{projection}.weight'] = weight[..., None, None]
        official[f'{projection}.bias'] = torch.zeros_like(weight[:, 0])
    official['W'] = official['W'].t()
    return official
