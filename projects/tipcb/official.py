"""Names of the official TIPCB checkpoints, to ours and back."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

# Where the weights stand in a checkpoint. Its W is a classifier that nothing uses.
ENTRY = 'state_dict'
NECK = 'heads.levels.neck.'
PARTS = 6
# Official prefix, our prefix.
TABLE = (
    ('model_img.base1.0.', 'backbone.image.conv1.'),
    ('model_img.base1.1.', 'backbone.image.bn1.'),
    ('model_img.base1.4.', 'backbone.image.layer1.'),
    ('model_img.base2.0.', 'backbone.image.layer2.'),
    ('model_img.base3.0.', 'backbone.image.layer3.'),
    ('model_img.base4.0.', 'backbone.image.layer4.'),
    ('model_txt.branch1.0.downsample.', f'{NECK}downsample.'),
    *((f'model_txt.branch{number + 1}.', f'{NECK}branches.{number}.') for number in range(PARTS)),
    ('model_txt.', NECK),
    ('text_embed.', 'backbone.text.'),
)
# One module that six branches share, under the names of all.
REPEATED = tuple(f'model_txt.branch{number}.0.downsample.' for number in range(2, PARTS + 1))
# Saved and never used; older files have the second one.
UNUSED = ('text_embed.pooler.', 'text_embed.embeddings.position_ids')


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official checkpoint, in float32.

    Raises:
        ValueError: Also names a downsample of a branch that is not that of the first.
    """
    state = used_tensors(state, UNUSED)
    for key in [key for key in state if key.startswith(REPEATED)]:
        first = f'model_txt.branch1.0.downsample.{key.split(".downsample.")[1]}'
        if not torch.equal(state.pop(key), state.get(first, torch.empty(0))):
            raise ValueError(f'{key} differs from {first}; the release has one for all branches')
    return {
        key: value.squeeze(2) if key.startswith(NECK) and value.ndim == 4 else value
        for key, value in rename(state, TABLE).items()
    }


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`; BERT's pooler, which the release does not use, is zero."""
    wide = {
        key: value.unsqueeze(2) if key.startswith(NECK) and value.ndim == 3 else value
        for key, value in state.items()
    }
    official = rename(wide, inverse(TABLE))
    for key in [key for key in official if '.downsample.' in key and key.startswith('model_txt.')]:
        for prefix in REPEATED:
            official[prefix + key.split('.downsample.')[1]] = official[key].clone()
    bias = torch.zeros_like(state['backbone.text.embeddings.LayerNorm.bias'])
    pooler = {'dense.weight': bias.repeat(len(bias), 1), 'dense.bias': bias}
    return official | {f'text_embed.pooler.{name}': value for name, value in pooler.items()}
