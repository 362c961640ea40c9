"""Gives a setting of the model another value from some epoch on."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.checks import checked_at_least
from sen_toolbox.registry import HOOKS

from .number import owner_of


@HOOKS.register_module()
class SwitchHook(Hook):
    """Sets a setting of the model at the start of every epoch from ``epoch`` on.

    It depends on the epoch alone, so a resumed run has the same value.

    Args:
        target: The setting's dotted path in the model, e.g. ``heads.parts.ranking.adaptive``.
        value: Its value from then on.
        epoch: The first epoch with it, counted from 0.

    Raises:
        ValueError: If ``epoch`` is negative.
    """

    def __init__(self, *, target: str, value: Any, epoch: int) -> None:
        self.target = target
        self.value = value
        self.epoch = checked_at_least('epoch', epoch, 0)

    def before_train(self, runner: Runner) -> None:
        """Finds the setting.

        Raises:
            KeyError: If the model has no such setting.
        """
        try:
            self.owner, self.name = owner_of(runner.model, self.target)
        except AttributeError as error:
            raise KeyError(
                f'SwitchHook: the model has no setting {self.target!r} ({error})'
            ) from error

    def before_train_epoch(self, runner: Runner) -> None:
        """Sets it when its time has come."""
        if runner.epoch >= self.epoch:
            setattr(self.owner, self.name, self.value)
