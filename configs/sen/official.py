"""Names of the official SEN checkpoints, to ours and back."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.checkpoint.renaming import BASE_MODEL, inverse, rename, used_tensors

IRRA = load_layout(Path(__file__).parents[1] / 'irra' / 'official.py')
# Official prefix, our prefix. Every weight that the release uses is in this table.
TABLE = (
    *BASE_MODEL,
    *IRRA.IDENTITY_AND_WORDS,
    ('cross_attn_mlm.', 'heads.mlm.neck.cross_attention.'),
    ('cross_modal_transformer_mlm.', 'heads.mlm.neck.transformer.'),
    ('mask_token', 'heads.restoration.neck.mask_token'),
    ('norm_1.', 'heads.restoration.neck.image_norm.'),
    ('norm_2.', 'heads.restoration.neck.text_norm.'),
    ('decoder_embed.', 'heads.restoration.neck.embed.'),
    ('norm_4.', 'heads.restoration.neck.query_norm.'),
    ('cross_attn_Text.', 'heads.restoration.neck.cross_attention.'),
    ('norm_6.', 'heads.restoration.neck.cross_norm.'),
    ('cross_modal_transformer_mae.', 'heads.restoration.neck.transformer.'),
    ('norm_7.', 'heads.restoration.neck.output_norm.'),
    ('decoder_pred.', 'heads.restoration.neck.predict.'),
)
# Saved by the release and never used by its forward pass, but for the first, a constant.
UNUSED = (
    'decoder_pos_embed',
    'cross_attn_TextImage.',
    'cross_attn_Image.',
    'norm_3.',
    'norm_5.',
)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official checkpoint, in float32.

    Of the parts that are optional there, the head of masked words is known; ours is called ``mlm``.
    """
    return rename(used_tensors(state, UNUSED), TABLE)


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`.

    The modules that the release holds without using them are filled with zeros (norms with ones).
    """
    # Saved by the release, though fixed.
    grid_position = model.heads['restoration'].neck.position
    official = rename(state, inverse(TABLE))
    unused = {'decoder_pos_embed': grid_position}
    for key, value in official.items():
        if key.startswith('cross_attn_Text.'):
            for prefix in ('cross_attn_TextImage.', 'cross_attn_Image.'):
                unused[prefix + key.removeprefix('cross_attn_Text.')] = torch.zeros_like(value)
        if key.startswith('norm_4.'):
            fill = torch.ones_like if key.endswith('weight') else torch.zeros_like
            for prefix in ('norm_3.', 'norm_5.'):
                unused[prefix + key.removeprefix('norm_4.')] = fill(value)
    return official | unused
