"""Lets a number of the model grow during the first epochs."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from sen_toolbox.checks import checked_positive
from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import HOOKS


@HOOKS.register_module()
class RampHook(Hook):
    """Raises a number of the model linearly from 0 to its configured value.

    It depends on the iteration alone, so a resumed run continues it.

    Args:
        target: The number's dotted path in the model, e.g.
            ``heads.contrast.losses.nitc.softness``.
        epochs: Length of the rise, above 0; the first iteration after it has the full value.

    Raises:
        ValueError: If ``epochs`` is not above 0.
    """

    def __init__(self, *, target: str, epochs: float = 1) -> None:
        self.target = target
        self.epochs = checked_positive('epochs', epochs)

    def before_train(self, runner: Runner) -> None:
        """Finds the number.

        Raises:
            KeyError: If the model has no such number.
        """
        try:
            self.owner, self.name = owner_of(runner.model, self.target)
            self.value = float(getattr(self.owner, self.name))
        except (AttributeError, TypeError) as error:
            raise KeyError(
                f'RampHook: the model has no number {self.target!r} ({error})'
            ) from error

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Sets the number for this iteration."""
        done = runner.iter / (self.epochs * len(runner.train_dataloader))
        setattr(self.owner, self.name, self.value * min(1.0, done))


def owner_of(model: nn.Module, target: str) -> tuple[nn.Module, str]:
    """The part of a model that has a setting, and the setting's name there.

    Args:
        model: The model, or its wrapper for several processes.
        target: Dotted path of the setting.

    Raises:
        AttributeError: If there is no such part, or it has no such setting.
    """
    path, _, name = target.rpartition('.')
    owner = unwrapped(model).get_submodule(path)
    getattr(owner, name)
    return owner, name
