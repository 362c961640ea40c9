"""Names of the official LGUR weights, to ours and back."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, named_once, rename, used_tensors

# What a checkpoint holds, and how the names of its weights begin here.
ENTRIES = {
    'network': 'network.',
    'W': 'W.',
    'optimizer': None,
    'test_best': None,
    'epoch': None,
}
NECK, CLASSIFIER = 'heads.parts.neck.', 'heads.parts.classifiers.parts.'
# Official prefix, our prefix.
TABLE = (
    ('network.ImageExtract.model.', 'backbone.image.'),
    ('network.TextExtract.text_embed.', 'backbone.text.bert.'),
    ('network.TextExtract.lstm.', 'backbone.text.rnn.'),
    ('network.dict_feature', f'{NECK}dictionary'),
    ('network.mask.0.', f'{NECK}mask.'),
    ('network.query_embed_image', f'{NECK}parts.queries'),
    ('network.conv_1X1_2.weight', f'{NECK}parts.project.weight'),
    ('network.TXTDecoder_2.transformer.layers.', f'{NECK}rebuild.layers.'),
    ('network.TXTDecoder.transformer.layers.', f'{NECK}parts.decoder.layers.'),
    ('W.', CLASSIFIER),
)
# Within a layer of a decoder.
OF_LAYER = (
    ('.0.fn.norm.', '.norm.'),
    ('.0.fn.fn.to_out.0.', '.attention.to_out.'),
    ('.0.fn.fn.', '.attention.'),
    ('.1.fn.norm.', '.mlp_norm.'),
    ('.1.fn.fn.net.0.', '.mlp.0.'),
    ('.1.fn.fn.net.3.', '.mlp.2.'),
)
DECODERS = (f'{NECK}rebuild.layers.', f'{NECK}parts.decoder.layers.')
# One tensor here of one for each part there.
JOINED = {
    'network.conv_1X1_2.weight': 'network.conv_1X1_2.{}.block.0.weight',
    'W.weight': 'W.{}.W.block.weight',
    'W.bias': 'W.{}.W.block.bias',
}
# Saved and never used; older files have the last one.
UNUSED = (
    'network.pos_embed_image',
    'network.ImageExtract.model.norm.',
    'network.ImageExtract.model.fc.',
    'network.TextExtract.text_embed.pooler.',
    'network.TextExtract.text_embed.embeddings.position_ids',
)
BLOCK = 'network.ImageExtract.model.blocks.'


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames official tensors, in float32, joins those of all parts and drops the last block."""
    state = used_tensors(state, UNUSED)
    # It is saved and does not run.
    last = _last_block(state)
    state = {key: v for key, v in state.items() if not key.startswith(f'{BLOCK}{last}.')}
    for name, parts in JOINED.items():
        count = sum(parts.format(number) in state for number in range(len(state)))
        if count:
            rows = [state.pop(parts.format(number)) for number in range(count)]
            state = named_once([*state.items(), (name, torch.stack(rows))])
    if (name := 'network.conv_1X1_2.weight') in state:
        state[name] = state[name].flatten(2)
    renamed = rename(state, TABLE).items()
    return named_once((_in_layer(key, OF_LAYER), value) for key, value in renamed)


def _last_block(official: Mapping[str, Tensor]) -> int:
    """The number of the last block of the image encoder; 0 without any."""
    return max((int(key.split('.')[4]) for key in official if key.startswith(BLOCK)), default=0)


def _in_layer(key: str, names: tuple[tuple[str, str], ...]) -> str:
    """The key under the other name; at most one of the names is in it."""
    prefix = next((prefix for prefix in DECODERS if key.startswith(prefix)), None)
    if prefix is None:
        return key
    number, _, rest = key.removeprefix(prefix).partition('.')
    rest = f'.{rest}'
    for old, new in names:
        if rest.startswith(old):
            return f'{prefix}{number}{new}{rest.removeprefix(old)}'
    return key


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`; of what the release does not use, the last block is zeros.

    The rest of that is missing.
    """
    # The general name of what is in an attention comes after its output.
    named = {_in_layer(key, inverse(OF_LAYER)): value for key, value in state.items()}
    official = rename(named, inverse(TABLE))
    if (name := 'network.conv_1X1_2.weight') in official:
        official[name] = official[name][..., None, None]
    for name, parts in JOINED.items():
        for number, rows in enumerate(official.pop(name, ())):
            official[parts.format(number)] = rows
    # Without it, the way here would take the last block that is used for it.
    last = _last_block(official)
    used, unused = f'{BLOCK}{last}.', f'{BLOCK}{last + 1}.'
    return official | {
        unused + key.removeprefix(used): torch.zeros_like(value)
        for key, value in official.items()
        if key.startswith(used)
    }
