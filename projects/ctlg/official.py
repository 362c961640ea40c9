"""Names of the official CTLG checkpoints, to ours and back."""

from collections.abc import Mapping

from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

ENTRY = 'state_dict'
TABLE = (
    ('model_img.', 'backbone.image.'),
    ('model_txt.', 'backbone.text.'),
)
# Classes of ImageNet, and a buffer that older versions of transformers saved.
UNUSED = ('model_img.head.', 'model_txt.embeddings.position_ids')


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official checkpoint, in float32, without what is never used."""
    return rename(used_tensors(state, UNUSED), TABLE)


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`, without the classes of ImageNet."""
    return rename(state, inverse(TABLE))
