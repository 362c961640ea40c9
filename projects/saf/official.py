"""Names of the official SAF weights, to ours and back."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, named_once, rename, used_tensors

# What a checkpoint holds, and how the names of its weights begin here.
ENTRIES = {'network': '', 'W': 'W', 'optimizer': None, 'epoch': None}
IMAGE, NECK = 'image_model.transformer.', 'heads.parts.neck.'
# Official prefix, our prefix.
TABLE = (
    (f'{IMAGE}embeddings.position_embeddings', 'backbone.image.pos_embed'),
    (f'{IMAGE}embeddings.cls_token', 'backbone.image.cls_token'),
    (f'{IMAGE}embeddings.patch_embeddings.', 'backbone.image.patch_embed.proj.'),
    (f'{IMAGE}encoder.encoder_norm.', 'backbone.image.norm.'),
    (f'{IMAGE}encoder.layer.', 'backbone.image.blocks.'),
    ('language_model.textExtractor.', 'backbone.text.'),
    ('block.norm1.', f'{NECK}norm.'),
    ('block.attn.qkv.', f'{NECK}qkv.'),
    ('bottleneck_image.', f'{NECK}batch_norm.'),
    ('W', 'heads.parts.classifier.weight'),
)
# Within a block of the image model.
OF_BLOCK = (
    ('.attention_norm.', '.norm1.'),
    ('.ffn_norm.', '.norm2.'),
    ('.ffn.', '.mlp.'),
    ('.attn.out.', '.attn.proj.'),
)
PARTS = ('query', 'key', 'value')
BLOCK = 'backbone.image.blocks.'
# Saved and never used; older files have the last one.
UNUSED = (
    'block.attn.proj.',
    'fc.',
    'bottleneck_text.',
    'language_model.textExtractor.pooler.',
    'language_model.textExtractor.embeddings.position_ids',
)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official checkpoint, in float32.

    Raises:
        ValueError: Also names a part of an attention that is missing.
    """
    state = used_tensors(state, UNUSED)
    if 'W' in state:
        state['W'] = state['W'].t()
    renamed = rename(state, TABLE).items()
    found = named_once((_in_block(key, OF_BLOCK), value) for key, value in renamed)
    for key in [key for key in found if key.startswith(BLOCK) and '.attn.query.' in key]:
        names = [key.replace('query', name) for name in PARTS]
        if missing := [name for name in names if name not in found]:
            raise ValueError(f'the checkpoint has {key}, but not {missing}')
        joined = torch.cat([found.pop(name) for name in names])
        found = named_once([*found.items(), (key.replace('query', 'qkv'), joined)])
    return found


def _in_block(key: str, names: tuple[tuple[str, str], ...]) -> str:
    for old, new in names if key.startswith(BLOCK) else ():
        key = key.replace(old, new)
    return key


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`, without what the release saves and does not use."""
    apart = {}
    for key, value in state.items():
        if key.startswith(BLOCK) and '.attn.qkv.' in key:
            for name, part in zip(PARTS, value.chunk(3), strict=True):
                apart[key.replace('qkv', name)] = part
        else:
            apart[_in_block(key, inverse(OF_BLOCK))] = value
    official = rename(apart, inverse(TABLE))
    if 'W' in official:
        official['W'] = official['W'].t()
    return official
