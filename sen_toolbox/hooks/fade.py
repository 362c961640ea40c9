"""Lets a number of the model shrink from epoch to epoch."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.checks import checked_positive, checked_share
from sen_toolbox.registry import HOOKS

from .ramp import owner_of


@HOOKS.register_module()
class FadeHook(Hook):
    """Lowers a number of the model linearly, by the same share of it in every epoch.

    It depends on the epoch alone, so a resumed run continues it.

    Args:
        target: The number's dotted path in the model, e.g. ``heads.bge.second_weight``.
        step: What each epoch takes, the first one too, as a share of the configured value; above 0.
        least: The share that is left in the end, in 0..1.

    Raises:
        ValueError: If ``step`` or ``least`` is outside its range.
    """

    def __init__(self, *, target: str, step: float, least: float = 0.0) -> None:
        self.target = target
        self.step = checked_positive('step', step)
        self.least = checked_share('least', least)

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
                f'FadeHook: the model has no number {self.target!r} ({error})'
            ) from error

    def before_train_epoch(self, runner: Runner) -> None:
        """Sets the number for this epoch."""
        share = max(self.least, 1 - self.step * (runner.epoch + 1))
        setattr(self.owner, self.name, self.value * share)
