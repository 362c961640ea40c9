"""Names of the official IVT checkpoints, to ours and back."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

# Where the weights stand in a checkpoint.
ENTRY = 'state_dict'
# Official prefix, our prefix.
TABLE = (
    ('encoder_vl.embeddings.', 'backbone.text.embeddings.'),
    ('encoder_vl.mlp_txt.', 'backbone.text.mlps.'),
    ('encoder_vl.', 'backbone.image.'),
)
# Saved and never used.
UNUSED = ('temp', 'classifier_img.', 'bottleneck_img.', 'encoder_vl.embeddings.position_ids')
BLOCK = r'^encoder_vl\.blocks\.(\d+)\.'


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official checkpoint, in float32."""
    named = {}
    for key, value in used_tensors(state, UNUSED).items():
        key = re.sub(rf'{BLOCK}mlp_txt\.', r'encoder_vl.mlp_txt.\1.', key)
        named[re.sub(rf'{BLOCK}mlp_vis\.', r'encoder_vl.blocks.\1.mlp.', key)] = value
    return rename(named, TABLE)


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`, without what the release saves and does not use."""
    official = {}
    for key, value in rename(state, inverse(TABLE)).items():
        key = re.sub(rf'{BLOCK}mlp\.', r'encoder_vl.blocks.\1.mlp_vis.', key)
        key = re.sub(r'^encoder_vl\.mlp_txt\.(\d+)\.', r'encoder_vl.blocks.\1.mlp_txt.', key)
        official[key] = value
    return official
