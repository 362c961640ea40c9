"""Lets a number of the model grow during the first epochs."""

from mmengine.runner import Runner

from sen_toolbox.checks import checked_positive
from sen_toolbox.registry import HOOKS

from .number import NumberHook


@HOOKS.register_module()
class RampHook(NumberHook):
    """Raises a number of the model linearly from 0 to its configured value.

    It depends on the iteration alone, so a resumed run continues it.

    Args:
        target: The number's dotted path in the model.
        epochs: Length of the rise, above 0; the first iteration after it has the full value.

    Raises:
        ValueError: If ``epochs`` is not above 0.
    """

    def __init__(self, *, target: str, epochs: float = 1) -> None:
        super().__init__(target=target)
        self.epochs = checked_positive('epochs', epochs)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Sets the number for this iteration."""
        self.set_share(min(1.0, runner.iter / (self.epochs * len(runner.train_dataloader))))
