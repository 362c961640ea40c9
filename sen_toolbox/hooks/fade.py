"""Lets a number of the model shrink from epoch to epoch."""

from mmengine.runner import Runner

from sen_toolbox.checks import checked_positive, checked_share
from sen_toolbox.registry import HOOKS

from .number import NumberHook


@HOOKS.register_module()
class FadeHook(NumberHook):
    """Lowers a number of the model linearly, by the same share of it in every epoch.

    It depends on the epoch alone, so a resumed run continues it.

    Args:
        target: The number's dotted path in the model.
        step: What each epoch takes, the first one too, as a share of the configured value; above 0.
        least: The share that is left in the end, in 0..1.

    Raises:
        ValueError: If ``step`` or ``least`` is outside its range.
    """

    def __init__(self, *, target: str, step: float, least: float = 0.0) -> None:
        super().__init__(target=target)
        self.step = checked_positive('step', step)
        self.least = checked_share('least', least)

    def before_train_epoch(self, runner: Runner) -> None:
        """Sets the number for this epoch."""
        self.set_share(max(self.least, 1 - self.step * (runner.epoch + 1)))
