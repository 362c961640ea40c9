"""Names of the official RDE checkpoints, to ours and back."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import BASE_MODEL, inverse, rename, used_tensors

# Official prefix, our prefix.
TABLE = (
    *BASE_MODEL,
    *(
        (f'{theirs}.{layer}.', f'heads.tse.{ours}.{name}.')
        for theirs, ours, skip in (
            ('visul_emb_layer', 'image_neck', 'fc'),
            ('texual_emb_layer', 'text_neck', 'linear'),
        )
        for layer, name in (
            (skip, 'skip'),
            ('mlp.layers.0', 'hidden'),
            ('mlp.bns.0', 'norm'),
            ('mlp.layers.1', 'output'),
        )
    ),
)
# Saved by the release and never used by its forward pass.
UNUSED = (
    'visul_emb_layer.linear.',
    'visul_emb_layer.mlp.bns.1.',
    'texual_emb_layer.mlp.bns.1.',
)
LAYERS = ('visul_emb_layer.mlp.', 'texual_emb_layer.mlp.')


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official RDE checkpoint, in float32.

    The bias before a batch norm, which we have not, goes into the norm's running mean.

    Raises:
        ValueError: Also names a bias that is missing.
    """
    state = used_tensors(state, UNUSED)
    for prefix in LAYERS:
        mean, bias = f'{prefix}bns.0.running_mean', f'{prefix}layers.0.bias'
        if mean in state:
            if bias not in state:
                raise ValueError(f'the checkpoint lacks {bias}')
            state[mean] = state[mean] - state.pop(bias)
    return rename(state, TABLE)


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`.

    The modules that the release holds without using them are filled with zeros (norms: as new).
    """
    official = rename(state, inverse(TABLE))
    for prefix in LAYERS:
        hidden = official[f'{prefix}bns.0.running_mean']
        output = official[f'{prefix}layers.1.bias']
        official[f'{prefix}layers.0.bias'] = torch.zeros_like(hidden)
        for name, fill in (('weight', 1), ('bias', 0), ('running_mean', 0), ('running_var', 1)):
            official[f'{prefix}bns.1.{name}'] = torch.full_like(output, fill)
        official[f'{prefix}bns.1.num_batches_tracked'] = torch.tensor(0)
    for name in ('weight', 'bias'):
        skip = official[f'visul_emb_layer.fc.{name}']
        official[f'visul_emb_layer.linear.{name}'] = torch.zeros_like(skip)
    return official
