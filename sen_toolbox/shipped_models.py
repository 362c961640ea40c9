"""Models of the configs that come with the toolbox, by name."""

from pathlib import Path
from typing import Any

from torch import nn

from sen_toolbox.inference.trained import build_trained
from sen_toolbox.registry import MODELS
from sen_toolbox.shipped_configs import get_config


def get_model(
    name: str,
    checkpoint: str | Path | None = None,
    *,
    overrides: dict[str, Any] | None = None,
    device: str = 'cpu',
) -> nn.Module:
    """The retriever of a config, in evaluation mode.

    To embed pictures and sentences with it as its config prepares them, take
    :meth:`sen_toolbox.inference.encoder.Encoder.from_config`.

    Args:
        name: As :func:`~sen_toolbox.shipped_configs.list_models` lists it.
        checkpoint: Its checkpoint, or a model of open_clip by name for its towers. None for random
            weights; ``model.load_weights()`` then loads the towers' pretrained ones.
        overrides: Values of the config by dotted key, such as ``num_classes``.
        device: Where the model is put.

    Raises:
        ValueError: If there is no config of this name; tells which are alike. If the checkpoint is
            not of this config.
        FileNotFoundError: If there is no such checkpoint.
        KeyError: If nothing reads an override.
    """
    config = get_config(name, overrides)
    model = MODELS.build(config.model) if checkpoint is None else build_trained(config, checkpoint)
    return model.to(device).eval()
