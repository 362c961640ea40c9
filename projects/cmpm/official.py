"""Names of the checkpoints of the PyTorch version of CMPM/C, to ours and back."""

from collections.abc import Mapping

from torch import Tensor, nn

from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

# What a checkpoint holds, and how the names of its weights begin here. Later files also have
# averages over epochs, which do not become ours.
ENTRIES = {'network': '', 'W': 'W', 'optimizer': None, 'epoch': None, 'network_ema': None}
# Official prefix, our prefix.
TABLE = (
    ('image_model.', 'backbone.image.'),
    ('bilstm.embed.', 'backbone.text.word_embedding.'),
    ('bilstm.bilstm.0.', 'backbone.text.first.'),
    ('bilstm.bilstm.1.', 'backbone.text.second.'),
    ('conv_images.', 'backbone.image_projection.'),
    ('conv_text.', 'backbone.text_projection.'),
    ('W', 'heads.cmpc.weight'),
)
# The classifier of ImageNet, which its forward pass leaves out.
UNUSED = ('image_model.fc.',)
PROJECTIONS = ('conv_images.weight', 'conv_text.weight')


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of an official checkpoint, in float32.

    Its 1 x 1 convolutions become linear layers, and its class weights stand in rows.
    """
    state = used_tensors(state, UNUSED)
    for key in PROJECTIONS:
        if key in state:
            state[key] = state[key].flatten(1)
    if 'W' in state:
        state['W'] = state['W'].t().contiguous()
    return rename(state, TABLE)


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`."""
    official = rename(state, inverse(TABLE))
    for key in PROJECTIONS:
        official[key] = official[key][:, :, None, None]
    official['W'] = official['W'].t().contiguous()
    return official
