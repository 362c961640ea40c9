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
    """Renames the tensors of an official checkpoint, in float32.

    Args:
        state: The ``model`` entry of the checkpoint; a ``module.`` prefix is dropped.

    Raises:
        ValueError: Names the keys that the table does not know.
    """
    return rename(used_tensors(state), TABLE)


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`.

    Args:
        state: State dict of an LFSA of this toolbox.
        model: The model; not read.

    Raises:
        ValueError: Names the keys that the table does not know.
    """
    return rename(state, BACK)
