"""Names of the official IRRA checkpoints, to ours and back."""

from collections.abc import Mapping

from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import BASE_MODEL, inverse, rename, used_tensors

# Official prefix, our prefix. Every weight that the release uses is in this table.
IDENTITY_AND_WORDS = (
    ('classifier.', 'heads.identity.classifier.'),
    ('ln_pre_t.', 'heads.mlm.neck.text_norm.'),
    ('ln_pre_i.', 'heads.mlm.neck.image_norm.'),
    ('ln_post.', 'heads.mlm.neck.output_norm.'),
    ('mlm_head.dense.', 'heads.mlm.classifier.dense.'),
    ('mlm_head.ln.', 'heads.mlm.classifier.norm.'),
    ('mlm_head.fc.', 'heads.mlm.classifier.words.'),
)
TABLE = (
    *BASE_MODEL,
    *IDENTITY_AND_WORDS,
    ('cross_attn.', 'heads.mlm.neck.cross_attention.'),
    ('cross_modal_transformer.', 'heads.mlm.neck.transformer.'),
)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official checkpoint, in float32."""
    return rename(used_tensors(state), TABLE)


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`."""
    return rename(state, inverse(TABLE))
