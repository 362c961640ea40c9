"""Names of MatConvNet's checkpoints of Dual Path, to ours and back: all but the ResNet.

The ResNet lies in a file of MatConvNet's that has its strides elsewhere than torchvision's.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

IMAGE, TEXT, CLASSIFIER = 'backbone.image.', 'backbone.text.', 'heads.instance.classifier.'
# Unit in our order, and its shortcut where it has layers.
UNITS = (
    ('fc2_1', 'fc2_1b'),
    ('fc2_2', None),
    ('fc2_3', None),
    ('fc2_4a', 'fc2_4b'),
    *((f'fc3_{number}', None) for number in (2, 3, 4)),
    ('fc3_5a', 'fc3_5b'),
    *((f'fc4_{number}', None) for number in (2, 3, 4, 5, 6)),
    ('fc4_7a', 'fc4_7b'),
)
EPSILON = 1e-3  # that of every norm


def _layers() -> Iterator[tuple[str, str]]:
    """Each layer with a norm behind it: its name there, its name here."""
    yield 'fc1', f'{IMAGE}hidden'
    yield 'fc1_1', f'{IMAGE}output'
    yield 'fc5_2', f'{TEXT}output'
    for number, (unit, shortcut) in enumerate(UNITS):
        for part, name in enumerate(('reduce', 'middle', 'widen'), start=1):
            yield f'{unit}_{part}', f'{TEXT}units.{number}.{name}'
        if shortcut:
            yield shortcut, f'{TEXT}units.{number}.shortcut'


LAYERS = {f'{theirs}f': f'{ours}.weight' for theirs, ours in _layers()}
NORMS = {f'{theirs}bn': f'{ours}_norm.' for theirs, ours in _layers()} | {
    'fc2bn': f'{TEXT}word_norm.'
}
VECTORS = {'fc2b': f'{TEXT}word_bias', 'fcshareb': f'{CLASSIFIER}bias'}
WORDS, CLASSES = 'fc2f', 'fcsharef'
WORD_TABLE, CLASS_TABLE = f'{TEXT}word_embedding.weight', f'{CLASSIFIER}weight'
ENDINGS = {'_w': 'weight', '_b': 'bias'}


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of MatConvNet under our names and in our shapes, in float32.

    A norm's moments are its mean and deviation there. Padding has no word there and gets a row of
    zeros.
    """
    unknown = sorted(state.keys() - _known())
    if unknown:
        raise ValueError(
            f'{len(unknown)} keys have no place in the layout, the first are {unknown[:8]}; is '
            'this a checkpoint of another method? (The ResNet cannot be brought over.)'
        )
    state = {key: value.float() for key, value in state.items()}
    ours = {}
    for key, value in state.items():
        if key in LAYERS:
            kernel = value[0].permute(2, 1, 0)
            ours[LAYERS[key]] = kernel if '.units.' in LAYERS[key] else kernel[:, :, 0]
        elif key in VECTORS:
            ours[VECTORS[key]] = value[:, 0]
        elif key == WORDS:
            ours[WORD_TABLE] = torch.cat([torch.zeros_like(value[0, 0, :1]), value[0, 0]])
        elif key == CLASSES:
            ours[CLASS_TABLE] = value[0, 0].t()
        elif key.endswith('_m'):
            norm = NORMS[key[:-2]]
            ours[f'{norm}running_mean'] = value[:, 0]
            ours[f'{norm}running_var'] = value[:, 1].square() - EPSILON
            ours[f'{norm}num_batches_tracked'] = torch.tensor(0)
        else:
            ours[NORMS[key[:-2]] + ENDINGS[key[-2:]]] = value[:, 0]
    return {key: value.contiguous() for key, value in ours.items()}


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`, up to the rounding of deviations.

    The ResNet of the model is left out. Gradients by the names of their parameters are taken, too.
    """
    theirs = {}
    for key, name in LAYERS.items():
        kernel = state[name] if state[name].ndim == 3 else state[name][:, :, None]
        theirs[key] = kernel.permute(2, 1, 0)[None]
    for key, name in VECTORS.items():
        theirs[key] = state[name][:, None]
    theirs[WORDS] = state[WORD_TABLE][1:][None, None]
    theirs[CLASSES] = state[CLASS_TABLE].t()[None, None]
    for key, norm in NORMS.items():
        for ending, name in ENDINGS.items():
            theirs[key + ending] = state[norm + name][:, None]
        if f'{norm}running_var' in state:
            deviation = (state[f'{norm}running_var'] + EPSILON).sqrt()
            theirs[f'{key}_m'] = torch.stack([state[f'{norm}running_mean'], deviation], dim=1)
    return {key: value.contiguous() for key, value in theirs.items()}


def _known() -> set[str]:
    norms = {f'{key}{ending}' for key in NORMS for ending in (*ENDINGS, '_m')}
    return {*LAYERS, *VECTORS, WORDS, CLASSES, *norms}
