"""Logs what the steps return without the host waiting for the device in each of them."""

from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from sen_toolbox.registry import HOOKS


@HOOKS.register_module()
class DeferredInfoHook(RuntimeInfoHook):
    """MMEngine's ``RuntimeInfoHook``, which reads the losses only before they are logged or saved.

    Reading a number waits for the device, which then idles until the host has prepared the next
    step. MMEngine reads every number in every step; here all of them are read at once when the
    ``LoggerHook`` is about to log, at the end of an epoch, and before a checkpoint. The history of
    each number is the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[dict[str, torch.Tensor]] = []
        self._interval = 1

    def before_train(self, runner: Runner) -> None:
        """Finds out how often something is logged."""
        super().before_train(runner)
        for hook in runner.hooks:
            if isinstance(hook, LoggerHook):
                self._interval = hook.interval

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Keeps what the step returned; ``outputs`` are scalar tensors."""
        self._steps.append(outputs or {})
        is_last = self.end_of_epoch(runner.train_dataloader, batch_idx)
        if is_last or self.every_n_inner_iters(batch_idx, self._interval):
            self._read(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Completes the histories in the checkpoint."""
        self._read(runner)
        checkpoint['message_hub'] = runner.message_hub.state_dict()

    def _read(self, runner: Runner) -> None:
        steps, self._steps = self._steps, []
        named = [item for outputs in steps for item in outputs.items()]
        if named:
            values = torch.stack([value.detach().float() for _, value in named]).tolist()
            for (name, _), value in zip(named, values, strict=True):
                runner.message_hub.update_scalar(f'train/{name}', value)
