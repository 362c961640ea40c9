"""What hooks have in common that change a setting of the model while it trains."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from sen_toolbox.models.wrapping import unwrapped


class NumberHook(Hook):
    """Sets a number of the model to shares of its configured value.

    Args:
        target: The number's dotted path in the model, e.g.
            ``heads.contrast.losses.nitc.softness``.
    """

    def __init__(self, *, target: str) -> None:
        self.target = target

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
                f'{type(self).__name__}: the model has no number {self.target!r} ({error})'
            ) from error

    def set_share(self, share: float) -> None:
        """Makes the number this share of its configured value."""
        setattr(self.owner, self.name, self.value * share)


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
