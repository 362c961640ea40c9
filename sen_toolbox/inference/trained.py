"""The whole model of a config with its weights."""

from pathlib import Path

from mmengine.config import Config
from torch import nn

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.values import weights_in
from sen_toolbox.hub import is_hub_name
from sen_toolbox.inference.hub_model import build_from_name
from sen_toolbox.inference.outline import NothingDrawn
from sen_toolbox.registry import MODELS


def build_trained(config: Config, checkpoint: str | Path) -> nn.Module:
    """The retriever of a config, heads included, in float32 on the CPU.

    Args:
        config: A loaded config.
        checkpoint: Its checkpoint, or a model of open_clip by name, which its towers start from.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the checkpoint is not of this config.
    """
    if is_hub_name(checkpoint):
        return build_from_name(config.model, str(checkpoint))
    # Every number of it is in the checkpoint, which check_keys sees to.
    with NothingDrawn():
        model = MODELS.build(config.model)
    state = weights_in(load_checkpoint_file(str(checkpoint), map_location='cpu'), checkpoint)
    check_keys(model, state, checkpoint)
    model.load_state_dict(state)
    return model
