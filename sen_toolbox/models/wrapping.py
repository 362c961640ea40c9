"""The model within what MMEngine wraps it in to train on several processes."""

from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The retriever itself, under whose names configs, rules and checkpoints know its parts."""
    # Imported here because it imports all of MMEngine's training.
    from mmengine.model import is_model_wrapper

    return model.module if is_model_wrapper(model) else model
