"""Stops a run whose loss is not finite and keeps everything that is needed to see why."""

import io
from pathlib import Path
from typing import Any, TypeAlias

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu
from torch import Tensor, nn

from sen_toolbox.io import write_atomically
from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import HOOKS
from sen_toolbox.seeding import STEP
from sen_toolbox.text.tokens import Tokens

from .shared_flags import SharedFlags

SHOWN_IDENTITIES = 16
# A batch, and which of the epoch it is.
_Place: TypeAlias = tuple[Runner, int, dict]


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Looks at the loss of every head in every step, before the weights are changed by it.

    The flags are computed behind the forward pass and copied to the host without waiting; they are
    awaited when the optimiser is about to step. By then the backward pass has been queued, so a
    GPU has work left and does not idle. Processes share their flags (one small all-reduce a step)
    and stop together, before any of them saves damaged weights.

    ``WORK_DIR/nonfinite_iter_N_rank_R.pth`` holds tensors and plain values alone: the batch, the
    weights as they were before the step, the seed of the step, the model's config.
    ``tools/replay_step.py`` runs it.
    """

    def before_train(self, runner: Runner) -> None:
        """Watches the model's losses and the optimiser's steps."""
        self._flags: list[tuple[_Place, dict[str, Tensor], SharedFlags]] = []
        self._place: _Place | None = None
        model = unwrapped(runner.model)
        self._handles = [
            model.register_forward_hook(self._watch, with_kwargs=True),
            runner.optim_wrapper.optimizer.register_step_pre_hook(self._before_step),
        ]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keeps the batch until the next one."""
        self._flags.clear()
        self._place = runner, batch_idx, data_batch

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Checks steps that did not reach the optimiser: accumulated, or skipped in float16."""
        self._check()

    def after_train(self, runner: Runner) -> None:
        """Stops watching."""
        for handle in self._handles:
            handle.remove()

    def _watch(self, model: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if kwargs.get('mode') != 'loss' or not model.training or self._place is None:
            return
        # MMEngine's rule for what belongs to the objective.
        losses = {k: v.detach() for k, v in output.items() if 'loss' in k}
        bad = torch.stack([~value.isfinite().all() for value in losses.values()]).int()
        self._flags.append((self._place, losses, SharedFlags(bad)))

    def _before_step(self, *_: Any) -> None:
        self._check()

    def _check(self) -> None:
        flags, self._flags = self._flags, []
        for place, losses, shared in flags:
            bad = [name for name, flag in zip(losses, shared.read(), strict=True) if flag]
            if bad:
                self._stop(place, losses, bad)

    def _stop(self, place: _Place, losses: dict[str, Tensor], bad: list[str]) -> None:
        runner, batch_idx, batch = place
        values = {name: float(value) for name, value in losses.items()}
        path = Path(runner.work_dir) / f'nonfinite_iter_{runner.iter + 1}_rank_{get_rank()}.pth'
        model = unwrapped(runner.model)
        dtype = getattr(runner.optim_wrapper, 'dtype', None)
        dump = dict(
            losses=values,
            epoch=runner.epoch + 1,
            iteration=runner.iter + 1,
            batch_in_epoch=batch_idx + 1,
            rank=get_rank(),
            world_size=get_world_size(),
            seed=[runner.seed, STEP, runner.iter, get_rank()],
            batch={key: _plain(value) for key, value in batch.items()},
            model=runner.cfg.to_dict()['model'],
            autocast=None if dtype is None else str(dtype).removeprefix('torch.'),
            device=str(next(model.parameters()).device),
            last_checkpoint=runner.message_hub.get_info('last_ckpt'),
            state_dict=weights_to_cpu(model.state_dict()),
        )
        with io.BytesIO() as file:
            torch.save(dump, file)
            write_atomically(path, file.getvalue())
        heads = ', '.join(f'{name.removesuffix(".loss")!r} ({values[name]})' for name in bad)
        people = sorted(set(batch['person_ids'].tolist()))
        shown = ', '.join(map(str, people[:SHOWN_IDENTITIES]))
        rest = (
            f' and {len(people) - SHOWN_IDENTITIES} more' if len(people) > SHOWN_IDENTITIES else ''
        )
        raise FloatingPointError(
            f'the loss of head {heads} is not finite on rank {get_rank()} or another, in iteration '
            f'{runner.iter + 1} (epoch {runner.epoch + 1}, batch {batch_idx + 1}), person ids '
            f'{shown}{rest}; the weights are as before the step: python tools/replay_step.py {path}'
        )


def _plain(value: Tensor | Tokens) -> Tensor | dict[str, Tensor]:
    """On the CPU, in types that a checkpoint may hold."""
    return vars(value.map(Tensor.cpu)) if isinstance(value, Tokens) else value.cpu()
