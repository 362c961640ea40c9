"""Names of the official CM-MoCo checkpoints, to ours and back."""

from collections.abc import Mapping

from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

QUEUES, SLOW = 'heads.moco.', 'heads.moco.slow.'
TABLE = (
    ('embed_model.v_encoder_q.', 'backbone.image.'),
    ('embed_model.t_encoder_q.gru.', 'backbone.text.rnn.'),
    ('embed_model.v_encoder_k.', f'{SLOW}image.'),
    ('embed_model.t_encoder_k.gru.', f'{SLOW}text.rnn.'),
    ('embed_model.v_embed_layer.', 'backbone.image_projection.'),
    ('embed_model.t_embed_layer.', 'backbone.text_projection.'),
    ('embed_model.v_queue', f'{QUEUES}image_queue'),
    ('embed_model.t_queue', f'{QUEUES}text_queue'),
    ('embed_model.id_queue', f'{QUEUES}identities'),
    ('embed_model.queue_ptr', f'{QUEUES}pointer'),
    ('embed_model.loss_evaluator.projection', 'heads.instance.weight'),
    ('vocab_dict', 'backbone.text.word_embedding.weight'),
)
# The encoders of queries, which it saves twice.
TWICE = {
    'visual_model.': 'embed_model.v_encoder_q.',
    'textual_model.': 'embed_model.t_encoder_q.',
}
# What the slow copy shares with the backbone.
SHARED = ('image_projection.', 'text_projection.', 'text.word_embedding.')
CLASSES, IDENTITIES = 'heads.instance.weight', f'{QUEUES}identities'


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official checkpoint, in float32.

    No checkpoint has the word vectors (words, width): they are given beside it as ``vocab_dict``.
    """
    ours = rename(used_tensors(state, tuple(TWICE)), TABLE)
    if CLASSES in ours:
        ours[CLASSES] = ours[CLASSES].t().contiguous()
    if IDENTITIES in ours:
        ours[IDENTITIES] = ours[IDENTITIES].flatten()
    shared = [key for key in ours if key.removeprefix('backbone.').startswith(SHARED)]
    return ours | {SLOW + key.removeprefix('backbone.'): ours[key] for key in shared}


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`."""
    shared = tuple(SLOW + name for name in SHARED)
    own = {key: value for key, value in state.items() if not key.startswith(shared)}
    if CLASSES in own:
        own[CLASSES] = own[CLASSES].t().contiguous()
    if IDENTITIES in own:
        own[IDENTITIES] = own[IDENTITIES][None]
    official = rename(own, inverse(TABLE))
    for again, first in TWICE.items():
        named = {k: v for k, v in official.items() if k.startswith(first)}
        official |= {again + key.removeprefix(first): value for key, value in named.items()}
    return official
