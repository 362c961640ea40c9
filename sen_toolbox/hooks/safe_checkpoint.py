"""Keeps checkpoints in an order in which a kill at any moment leaves a complete one."""

import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from sen_toolbox.checkpoint.finding import (
    STOPPED,
    WITHIN_EPOCHS,
    find_newest_checkpoint,
)
from sen_toolbox.checks import is_whole_number
from sen_toolbox.io import PARTIAL, write_atomically
from sen_toolbox.messages import shown
from sen_toolbox.registry import HOOKS

DROPPED = 'dropped_ckpt_ids'


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """Writes the new file, then the pointer ``last_checkpoint``, then deletes what is obsolete.

    MMEngine's hook deletes first, so a crash between leaves fewer checkpoints than asked for,
    perhaps none. There is room for one more checkpoint than ``max_keep_ckpts`` to be needed on the
    disk, and for one more best.

    What a stopped training leaves (see ``StopHook``) is ``stopped_iter_N.pth``, which the next
    checkpoint replaces too.

    Args:
        every_iters: Also saves every so many iterations, into one ``iter_N.pth`` that the next
            checkpoint of either kind replaces. Only with ``by_epoch=True``.
        **kwargs: Those of MMEngine's ``CheckpointHook``.

    Raises:
        ValueError: If ``every_iters`` is less than 1 or given with ``by_epoch=False``.
    """

    # MMEngine's hook sets it.
    best_ckpt_path: str | None

    def __init__(self, *, every_iters: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if every_iters is not None and (every_iters < 1 or not self.by_epoch):
            raise ValueError(
                f'every_iters is at least 1 and goes with by_epoch=True, got {every_iters} with '
                f'by_epoch={self.by_epoch}: use interval to save by iterations alone'
            )
        self.every_iters = every_iters
        self._former_best: str | None = None
        # Iterations that the newest checkpoint has seen, None before there is one.
        self.saved_at: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Finds its place again and deletes what a kill left over.

        Raises:
            ValueError: If a resumed checkpoint names as its own what this hook does not write.
        """
        hub = runner.message_hub
        _check_own_files(hub.runtime_info, f'message_hub of {runner.cfg.get("load_from")}')
        super().before_train(runner)
        # A work dir may have been copied: nothing in the other folder is ours.
        if last := hub.get_info('last_ckpt'):
            self.last_ckpt = self._path(Path(last).name)
        if best := getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = self._path(Path(best).name)
        for key, best in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = best and self._path(Path(best).name)
        if is_main_process():
            for partial in Path(self.out_dir).glob(f'*{PARTIAL}'):
                partial.unlink()
            self._drop(hub.get_info(DROPPED, []))
            # Reading the newest takes time, so only where there is a choice.
            if runner.iter > 0 and self._within_epochs():
                if newest := find_newest_checkpoint(self.out_dir):
                    self._drop_within_epochs(newest[0].name)
        self.saved_at = runner.iter or None

    def after_train_epoch(self, runner: Runner) -> None:
        """Saves by epoch, and the end of the training in any case."""
        super().after_train_epoch(runner)
        # The iteration at which training ends is not known before where epochs differ in length.
        if not self.by_epoch and self.save_last and self.is_last_train_epoch(runner):
            meta = dict(epoch=runner.epoch + 1, iter=runner.iter)
            self._save_checkpoint_with_step(runner, runner.iter, meta)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Saves by iteration."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self.every_iters and self.every_n_train_iters(runner, self.every_iters):
            step = runner.iter + 1
            runner.logger.info(f'Saving checkpoint at {step} iterations')
            self._write(runner, f'iter_{step}.pth', dict(epoch=runner.epoch, iter=step))

    def save_stopped(self, runner: Runner, done: int) -> None:
        """Saves after ``done`` iterations, unless the newest checkpoint has seen as many."""
        if self.saved_at != done:
            name = f'stopped_iter_{done}.pth'
            self._write(runner, name, dict(epoch=runner.epoch, iter=done))
            runner.logger.info(f'Saved {name}')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        self._drop_former_best()
        hub = runner.message_hub
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            full = len(self.keep_ckpt_ids) == self.max_keep_ckpts
            # Saved, so that a run resumed from this checkpoint can delete them.
            hub.update_info(DROPPED, [self.keep_ckpt_ids.popleft()] if full else [])
            self.keep_ckpt_ids.append(step)
            hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self._path(name)
        hub.update_info('last_ckpt', self.last_ckpt)
        self._write(runner, name, meta)
        if is_main_process():
            self._drop(hub.get_info(DROPPED, []))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best or len(self.key_indicators) > 1:
            super()._save_best_checkpoint(runner, metrics)
            return
        # Hidden, or MMEngine would delete it before the new one is written.
        self._former_best, self.best_ckpt_path = self.best_ckpt_path, None
        super()._save_best_checkpoint(runner, metrics)
        if self.best_ckpt_path is None:
            self.best_ckpt_path, self._former_best = self._former_best, None
        self._drop_former_best()

    def _write(self, runner: Runner, name: str, meta: dict) -> None:
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self.saved_at = meta['iter']
        if not is_main_process():
            return
        write_atomically(Path(runner.work_dir) / 'last_checkpoint', self._path(name))
        self._drop_within_epochs(name)

    def _drop_within_epochs(self, newest: str) -> None:
        for path in self._within_epochs():
            if path.name != newest:
                path.unlink()

    def _within_epochs(self) -> list[Path]:
        # Without every_iters a file iter_N.pth is one of by_epoch=False, to be kept.
        pattern = WITHIN_EPOCHS if self.every_iters else STOPPED
        return [p for p in Path(self.out_dir).glob('*.pth') if pattern.fullmatch(p.name)]

    def _drop_former_best(self) -> None:
        former, self._former_best = self._former_best, None
        if former and former != self.best_ckpt_path and is_main_process():
            self._remove(former)

    def _drop(self, steps: list[int]) -> None:
        for step in steps:
            self._remove(self._path(self.filename_tmpl.format(step)))

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)

    def _path(self, name: str) -> str:
        return self.file_backend.join_path(self.out_dir, name)


def _check_own_files(info: Mapping[str, Any], source: str) -> None:
    """Obsolete files are deleted, so a file from elsewhere may name none that is not ours."""
    for key in ('keep_ckpt_ids', DROPPED):
        steps = info.get(key, [])
        if not isinstance(steps, list) or not all(map(is_whole_number, steps)):
            raise ValueError(f'{key} in {source} must be a list of numbers, got {shown(steps)}')
    for key, value in info.items():
        if key == 'last_ckpt' or key.startswith('best_ckpt'):
            # The best one is deleted when a better one is written. None before there is one.
            name = Path(value).name if isinstance(value, str) else value
            fits = isinstance(name, str) and (key == 'last_ckpt' or name.startswith('best_'))
            if value is not None and not fits:
                raise ValueError(f'{key} in {source} is not a file of a training: {shown(value)}')
        elif key.startswith('best_score') and not isinstance(value, numbers.Real):
            raise ValueError(f'{key} in {source} must be a number, got {shown(value)}')
