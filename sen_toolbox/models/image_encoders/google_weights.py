"""Google's weights of the vision transformer, as JAX writes them (``.npz``), under timm's names."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sen_toolbox.checkpoint.values import named_faults
from sen_toolbox.messages import one_line

# Name there, name in timm; first what a ViT has once, then what a block has.
ONCE = {
    'embedding/kernel': 'patch_embed.proj.weight',
    'embedding/bias': 'patch_embed.proj.bias',
    'cls': 'cls_token',
    'Transformer/posembed_input/pos_embedding': 'pos_embed',
    'Transformer/encoder_norm/scale': 'norm.weight',
    'Transformer/encoder_norm/bias': 'norm.bias',
    'head/kernel': 'head.weight',
    'head/bias': 'head.bias',
    'pre_logits/kernel': 'pre_logits.weight',
    'pre_logits/bias': 'pre_logits.bias',
}
OF_BLOCK = {
    'LayerNorm_0/scale': 'norm1.weight',
    'LayerNorm_0/bias': 'norm1.bias',
    'LayerNorm_2/scale': 'norm2.weight',
    'LayerNorm_2/bias': 'norm2.bias',
    'MlpBlock_3/Dense_0/kernel': 'mlp.fc1.weight',
    'MlpBlock_3/Dense_0/bias': 'mlp.fc1.bias',
    'MlpBlock_3/Dense_1/kernel': 'mlp.fc2.weight',
    'MlpBlock_3/Dense_1/bias': 'mlp.fc2.bias',
    'MultiHeadDotProductAttention_1/out/kernel': 'attn.proj.weight',
    'MultiHeadDotProductAttention_1/out/bias': 'attn.proj.bias',
}
ATTENTION = 'MultiHeadDotProductAttention_1'


def read_google_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of such a file under timm's names.

    Raises:
        ValueError: If the file is damaged, or holds an array with another name.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # zipfile and NumPy raise many types for a damaged file
        raise ValueError(f'{path} is not a readable .npz file: {one_line(error)}') from error
    with named_faults(path):
        return _renamed({key: torch.from_numpy(array) for key, array in arrays.items()})


def _renamed(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    state, of_attention = {}, {}
    for key, given in arrays.items():
        tensor = given.float() if given.is_floating_point() else given
        if key in ONCE:
            state[ONCE[key]] = _turned(tensor, key)
            continue
        block, _, rest = key.removeprefix('Transformer/encoderblock_').partition('/')
        prefix = f'blocks.{block}.'
        if rest in OF_BLOCK:
            state[prefix + OF_BLOCK[rest]] = _turned(tensor, key)
        elif rest.startswith(f'{ATTENTION}/'):
            _, name, kind = rest.split('/')
            of_attention[prefix, name, kind] = tensor
        else:
            raise ValueError(f'this is not a ViT of Google: it holds {key}')
    for prefix, kind in {(prefix, kind) for prefix, _, kind in of_attention}:
        names = [(prefix, name, kind) for name in ('query', 'key', 'value')]
        # Where one is missing, so is the key below, which whoever loads the state reports.
        if all(name in of_attention for name in names):
            parts = [of_attention[name] for name in names]
            # Kernels are (W, heads, d), biases (heads, d).
            parts = [p.flatten(1).T if kind == 'kernel' else p.flatten() for p in parts]
            state[f'{prefix}attn.qkv.{"weight" if kind == "kernel" else "bias"}'] = torch.cat(parts)
    return state


def _turned(tensor: Tensor, key: str) -> Tensor:
    """A kernel with its outputs first; anything else as it is."""
    if not key.endswith('kernel'):
        return tensor
    if key == 'embedding/kernel':
        return tensor.permute(3, 2, 0, 1)
    # The output layer of attention has (heads, d, W), every other (in, out).
    return tensor.flatten(0, -2).T
