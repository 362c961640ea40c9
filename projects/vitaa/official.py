"""Names of the official ViTAA checkpoints, to ours and back."""

from collections.abc import Mapping

from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

CLASSES = 'embed_model.loss_evaluator.W'
HEAD = 'heads.attributes.'
# Official prefix, our prefix.
TABLE = (
    ('visual_model.', 'backbone.image.'),
    ('embed_model.res_global_branch.', 'backbone.image.branch.'),
    ('textual_model.embed.', 'backbone.text.word_embedding.'),
    ('textual_model.lstm.0.', 'backbone.text.first.'),
    ('textual_model.lstm.1.', 'backbone.text.second.'),
    ('embed_model.visual_embed_layer.', 'backbone.image_projection.'),
    ('embed_model.textual_embed_layer.', 'backbone.text_projection.'),
    ('embed_model.res_local_branch_list.', f'{HEAD}branches.'),
    ('embed_model.seg_local_branch.', f'{HEAD}segment.'),
    ('embed_model.part_embed_layer.', f'{HEAD}part_projection.'),
    ('embed_model.attribute_embed_layer.', f'{HEAD}attribute_projection.'),
    (CLASSES, 'heads.instance.weight'),
)
# On the way back the first prefix that fits counts.
BACK = tuple(sorted(inverse(TABLE), key=lambda row: -len(row[0])))


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official checkpoint, in float32."""
    state = used_tensors(state)
    if CLASSES in state:
        state[CLASSES] = state[CLASSES].t()
    return rename(state, TABLE)


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`."""
    official = rename(state, BACK)
    official[CLASSES] = official[CLASSES].t()
    return official
