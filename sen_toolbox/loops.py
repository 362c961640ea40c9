"""A training loop that goes on within an epoch exactly where a checkpoint was written."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.dist import all_gather_object, get_rank
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader, Sampler

from sen_toolbox.checks import checked_whole_number
from sen_toolbox.registry import LOOPS
from sen_toolbox.seeding import EPOCH, STEP, VALIDATION, seed_generators

# Kept in the message hub, which MMEngine saves in every checkpoint. What begins with 'val' there
# would be logged as a result.
BATCHES_DONE = 'batches_done'
VALIDATED_EPOCH = 'epoch_validated'


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """Trains by epochs; resumed, it does what an uninterrupted run would have done.

    MMEngine's loop starts an interrupted epoch anew, leaves out a validation that was interrupted
    and goes on with other random numbers. Here:

    - The batches of an epoch that the checkpoint has seen are skipped in the sampler; no image of
      them is read.
    - A validation that was due when the checkpoint was written is run first.
    - Every step seeds the generators of Python, NumPy and torch from the run's seed, the number of
      the step and the rank, and every sample those of its worker from seed, epoch and index (data
      sets with ``set_epoch(seed, epoch)``). So there are no random states to restore, and the
      number of workers changes nothing.

    Takes the arguments of ``EpochBasedTrainLoop``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A DataLoader fixes its own samplers, but not the one that its batches are made of.
        self._batches = self.dataloader.batch_sampler
        self._batches.sampler = self._remaining = _RemainingItems(self._batches.sampler)
        self._resumed_batches = 0

    def run(self) -> nn.Module:
        """Trains to the last epoch.

        Raises:
            ValueError: If the processes resumed from different checkpoints, or the checkpoint does
                not tell where it was written.
        """
        hub = self.runner.message_hub
        for key in (BATCHES_DONE, VALIDATED_EPOCH):
            source = self.runner.cfg.get('load_from')
            checked_whole_number(f'{key} in message_hub of {source}', hub.get_info(key, 0))
        self._require_agreement()
        self.runner.call_hook('before_train')
        if self._iter > 0:
            self._resumed_batches = hub.get_info(BATCHES_DONE, 0)
            # The number of the last step that was done, as after any step; MMEngine's hook has
            # set the number of the next one.
            hub.update_info('iter', self._iter - 1)
        if self._epoch > hub.get_info(VALIDATED_EPOCH, 0) and self._resumed_batches == 0:
            hub.update_info('epoch', self._epoch - 1)
            self._validate_if_due()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Trains on the batches of the epoch that are left."""
        runner, seed = self.runner, self.runner.seed
        # Before the hooks, one of which may look at all samples.
        seed_generators(seed, EPOCH, self._epoch, get_rank())
        _seed_samples(self.dataloader, seed, self._epoch)
        runner.call_hook('before_train_epoch')
        runner.model.train()
        done, self._resumed_batches = self._resumed_batches, 0
        self._remaining.start = done * self._batches.batch_size
        for index, batch in enumerate(self.dataloader, done):
            self.run_iter(index, batch)
        self._remaining.start = 0
        runner.message_hub.update_info(BATCHES_DONE, 0)
        runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Trains on one batch; ``idx`` counts from the beginning of the epoch."""
        # Checkpoints are written by hooks after the step, and then this batch counts as done.
        self.runner.message_hub.update_info(BATCHES_DONE, idx + 1)
        seed_generators(self.runner.seed, STEP, self._iter, get_rank())
        super().run_iter(idx, data_batch)

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        epoch, runner = self._epoch, self.runner
        last = epoch == self._max_epochs
        due = epoch >= self.val_begin and (epoch % self.val_interval == 0 or last)
        if runner.val_loop is None or not due:
            return
        # Checkpoints are written by hooks at the end of it.
        runner.message_hub.update_info(VALIDATED_EPOCH, epoch)
        seed_generators(runner.seed, VALIDATION, epoch)
        _seed_samples(runner.val_loop.dataloader, runner.seed, epoch)
        runner.val_loop.run()

    def _require_agreement(self) -> None:
        found = all_gather_object((self._epoch, self._iter))
        if len(set(found)) > 1:
            places = ', '.join(f'{rank}: {place}' for rank, place in enumerate(found))
            raise ValueError(
                f'the processes start from different (epoch, iteration) by rank: {places}; all '
                'nodes must see the same work dir'
            )


class _RemainingItems(Sampler):
    """The items of a sampler without the first ``start``; its length is that of all."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.start = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        return islice(iter(self.sampler), self.start, None)


def _seed_samples(loader: DataLoader, seed: int, epoch: int) -> None:
    if hasattr(loader.dataset, 'set_epoch'):
        loader.dataset.set_epoch(seed, epoch)
