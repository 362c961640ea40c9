"""Names of the official MANet weights, to ours and back.

What is read here has ``network.``, ``id_global.`` and ``id_local.`` before its names. Those of the
ResNet and of BERT are not known: no weights were published.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

NECK, CLASSIFIERS = 'heads.parts.neck.', 'heads.parts.classifiers.'
# Official prefix, our prefix.
TABLE = (
    ('network.TextExtract.lstm.', 'backbone.text.rnn.'),
    ('network.img_enc.', f'{NECK}mask.'),
    ('network.snr_block.IN.', f'{NECK}filtration.norm.'),
    ('network.snr_block.se_block.fc.0.', f'{NECK}filtration.squeeze.'),
    ('network.snr_block.se_block.fc.2.', f'{NECK}filtration.excite.'),
    ('network.visual_embed_layer.', f'{NECK}image_whole.'),
    ('network.textual_embed_layer.', f'{NECK}text_whole.'),
    ('network.Net_VLAD.theta.bn1.', f'{NECK}centres.theta.bn.'),
    ('network.Net_VLAD.phi.bn1.', f'{NECK}centres.phi.bn.'),
    ('network.Net_VLAD.rm.bn2.', f'{NECK}centres.rm.bn.'),
    ('network.Net_VLAD.', f'{NECK}centres.'),
    ('id_global.W.0.block.', f'{CLASSIFIERS}whole.'),
    ('id_local.W.', f'{CLASSIFIERS}local.'),
)
# Each block holds two norms and uses one.
UNUSED = tuple(f'network.Net_VLAD.{name}.' for name in ('theta.bn2', 'phi.bn2', 'rm.bn1'))
CONVOLUTION = 'network.Net_VLAD.conv.weight'


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames official tensors, in float32, and joins the classifiers of all parts."""
    state = used_tensors(state, UNUSED)
    if CONVOLUTION in state:
        state[CONVOLUTION] = state[CONVOLUTION].flatten(1)
    for name in ('weight', 'bias'):
        parts = [key for key in sorted(state) if _is_local(key, name)]
        if parts:
            state[f'id_local.W.{name}'] = torch.stack([state.pop(key) for key in parts])
        if (whole := f'id_global.W.0.block.{name}') in state:
            state[whole] = state[whole][None]
    return rename(state, TABLE)


def _is_local(key: str, name: str) -> bool:
    return key.startswith('id_local.W.') and key.endswith(f'.block.{name}')


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`, without the norms that the release does not use."""
    official = rename(state, inverse(TABLE))
    official[CONVOLUTION] = official[CONVOLUTION][..., None, None]
    for name in ('weight', 'bias'):
        for part, rows in enumerate(official.pop(f'id_local.W.{name}')):
            official[f'id_local.W.{part}.block.{name}'] = rows
        official[f'id_global.W.0.block.{name}'] = official[f'id_global.W.0.block.{name}'][0]
    return official
