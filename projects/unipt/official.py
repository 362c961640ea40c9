"""Names of the official UniPT pretraining's weights, to ours and back.

What fine-tuning adds is not known: no code of it was published.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

# Where the weights stand in a checkpoint.
ENTRY = 'state_dict'
NECK, WORDS = 'heads.contrast.neck.', 'heads.words.classifier.'
# Official prefix, our prefix.
TABLE = (
    ('img_proj.', f'{NECK}image.'),
    ('txt_proj.', f'{NECK}text.'),
    ('text_model.', 'backbone.text.'),
    ('transformer.', 'backbone.image.'),
    ('mlm_score.transform.dense.', f'{WORDS}dense.'),
    ('mlm_score.transform.LayerNorm.', f'{WORDS}norm.'),
    ('mlm_score.decoder.weight', f'{WORDS}words.weight'),
    ('mlm_score.bias', f'{WORDS}words.bias'),
)
# Saved and not used by what is compared: the frozen CLIP, poolers, types of tokens.
UNUSED = ('clip.', 'pooler.', 'token_type_embeddings.', 'text_model.pooler.')


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames official tensors, in float32."""
    return rename(used_tensors(state, UNUSED), TABLE)


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`."""
    return rename(state, inverse(TABLE))
