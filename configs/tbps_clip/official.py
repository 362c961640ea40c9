"""Names of the official TBPS-CLIP checkpoints, to ours."""

from collections.abc import Mapping

from torch import Tensor

from sen_toolbox.checkpoint.renaming import rename, used_tensors

# Official prefix, our prefix.
TABLE = (
    ('visual.', 'backbone.image.'),
    ('encode_text.', 'backbone.text.'),
    ('logit_scale', 'heads.contrast.logit_scale'),
    ('simclr_mlp.', 'heads.self_supervision.projection.'),
)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official TBPS-CLIP checkpoint, in float32.

    The simplified TBPS-CLIP has no ``simclr_mlp``, and nothing takes its place.
    """
    return rename(used_tensors(state), TABLE)
