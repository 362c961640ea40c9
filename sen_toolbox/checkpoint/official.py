"""Names of the official SEN and IRRA checkpoints, to ours and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

# Official prefix, our prefix. Every weight of the releases that does anything is in these tables.
_SHARED = (
    ('base_model.', 'backbone.'),
    ('classifier.', 'heads.identity.classifier.'),
    ('ln_pre_t.', 'heads.mlm.neck.text_norm.'),
    ('ln_pre_i.', 'heads.mlm.neck.image_norm.'),
    ('ln_post.', 'heads.mlm.neck.output_norm.'),
    ('mlm_head.dense.', 'heads.mlm.classifier.dense.'),
    ('mlm_head.ln.', 'heads.mlm.classifier.norm.'),
    ('mlm_head.fc.', 'heads.mlm.classifier.words.'),
)
IRRA_TABLE = (
    *_SHARED,
    ('cross_attn.', 'heads.mlm.neck.cross_attention.'),
    ('cross_modal_transformer.', 'heads.mlm.neck.transformer.'),
)
SEN_TABLE = (
    *_SHARED,
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
# Saved by the SEN release and never used by its forward pass, but for the first, a constant.
SEN_UNUSED = (
    'decoder_pos_embed',
    'cross_attn_TextImage.',
    'cross_attn_Image.',
    'norm_3.',
    'norm_5.',
)


def irra_from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official IRRA checkpoint, in float32.

    Args:
        state: The ``model`` entry of the checkpoint; a ``module.`` prefix is dropped.

    Raises:
        ValueError: Names the keys that the table does not know.
    """
    return rename(used_tensors(state), IRRA_TABLE)


def irra_to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of :func:`irra_from_official`, from the state dict of an IRRA of this toolbox.

    Raises:
        ValueError: Names the keys that the table does not know.
    """
    return rename(state, inverse(IRRA_TABLE))


def sen_from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official SEN checkpoint, in float32.

    Args:
        state: The ``model`` entry of the checkpoint; a ``module.`` prefix is dropped. Of the parts
            that are optional there, the head of masked words is known; ours is called ``mlm``.

    Raises:
        ValueError: Names the keys that the table does not know.
    """
    return rename(used_tensors(state, SEN_UNUSED), SEN_TABLE)


def sen_to_official(state: Mapping[str, Tensor], grid_position: Tensor) -> dict[str, Tensor]:
    """Inverse of :func:`sen_from_official`.

    The modules that the release holds without using them are filled with zeros (norms with ones).

    Args:
        state: State dict of a SEN of this toolbox.
        grid_position: The decoder's position embedding (1, 1 + N, D).

    Raises:
        ValueError: Names the keys that the table does not know.
    """
    official = rename(state, inverse(SEN_TABLE))
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
