"""Names of the official LFSA checkpoints, to ours and back."""

from collections.abc import Mapping

from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

# Official prefix, our prefix.
TABLE = (
    ('visual_model.', 'backbone.image.'),
    ('embed_model.visual_projection', 'backbone.image.proj'),
    ('embed_model.textual_projection', 'backbone.text.text_projection'),
    ('textual_model.', 'backbone.text.'),
    ('embed_model.loss_evaluator.classifier.', 'heads.pairs.identity.classifier.'),
)
# A more special prefix before the one that it begins with.
BACK = sorted(inverse(TABLE), key=lambda row: len(row[0]), reverse=True)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official checkpoint, in float32."""
    return rename(used_tensors(state), TABLE)


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`."""
    return rename(state, BACK)
