"""Stops a training that is asked to end by a signal, with a checkpoint of the step it is at."""

import multiprocessing
import signal
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, get_comm_device, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.signals import ShelteredWorker, StopSignals, sheltering_fork

from .safe_checkpoint import SafeCheckpointHook
from .shared_flags import SharedFlags


class StoppedBySignal(SystemExit):
    """Ends the program after an orderly stop of all processes; ``code`` is 128 plus the signal."""


class StopHook(Hook):
    """After SIGTERM or Ctrl-C finishes the step, saves, and raises ``StoppedBySignal``.

    What is saved is what ``every_iters`` of ``SafeCheckpointHook`` would save, so a resumed run
    ends as one that was not stopped. A validation that begins with a checkpoint of its epoch is
    left at once and run anew by a resumed run; any other one is finished first.

    All processes stop after the same step, whichever of them got the signal: each step they share
    one number, which is on its way while the step is computed.

    Args:
        at_end: Closed by the caller after the training, however that ends: signals do again what
            they did.
    """

    # After the hooks that save.
    priority = 'LOWEST'

    def __init__(self, at_end: ExitStack) -> None:
        self.at_end = at_end

    def before_train(self, runner: Runner) -> None:
        """Begins to notice signals; what was prepared until now is not worth a checkpoint."""
        self.signals = self.at_end.enter_context(StopSignals())
        self._wish: SharedFlags | None = None
        self._finishes_validation = False
        loops = [loop for loop in (runner.train_loop, runner.val_loop) if loop is not None]
        for loader in [loop.dataloader for loop in loops]:
            loader.worker_init_fn = ShelteredWorker(loader.worker_init_fn)
            # A worker that is not forked inherits no blocked signals.
            start = loader.multiprocessing_context or multiprocessing
            if loader.num_workers > 0 and start.get_start_method() == 'fork':
                loader.multiprocessing_context = sheltering_fork()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Shares the wish to stop."""
        self._share()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stops if any process wished to."""
        if number := self._shared():
            self._stop(runner, number, runner.iter + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        """Finds how many batches every process has, so that none waits for another's wish."""
        batches = torch.tensor(len(runner.val_dataloader))
        all_reduce(batches, op='min')
        self._common_batches = int(batches)
        savers = _savers(runner)
        self._finishes_validation = any(hook.saved_at != runner.iter for hook in savers)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Shares the wish to stop."""
        if batch_idx < self._common_batches:
            self._share()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stops if any process wished to and a checkpoint of before the validation exists."""
        # While other weights are validated than those that are trained (EMA), nothing can be saved.
        if batch_idx < self._common_batches and not self._finishes_validation:
            if number := self._shared():
                self._stop(runner, number, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Stops after a validation that had to be finished."""
        self._share()
        if number := self._shared():
            self._stop(runner, number, runner.iter)

    def _share(self) -> None:
        several = get_world_size() > 1
        if several:
            device = get_comm_device()
            self._wish = SharedFlags(torch.tensor([self.signals.received or 0], device=device))

    def _shared(self) -> int | None:
        # Alone, a process need not wait for the next step.
        return self.signals.received if self._wish is None else self._wish.read()[0]

    def _stop(self, runner: Runner, number: int, done: int) -> None:
        """Saves unless that has been done after ``done`` iterations, and ends the training."""
        name = signal.Signals(number).name
        runner.logger.warning(f'{name}: stops after iteration {done} (once more: at once)')
        for hook in _savers(runner):
            hook.save_stopped(runner, done)
        # None ends while another one writes.
        barrier()
        runner.visualizer.close()
        raise StoppedBySignal(128 + number)


def _savers(runner: Runner) -> list[SafeCheckpointHook]:
    return [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
