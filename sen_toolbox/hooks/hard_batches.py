"""Tells a sampler before each epoch which persons the model finds alike."""

import numpy as np
import torch
from mmengine.dist import all_gather_object, broadcast, get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.datasets.samplers import HardBatchSampler
from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import HOOKS

# Kept in the message hub, which MMEngine saves in every checkpoint.
ORDER = 'hard_batches'
EPOCH_ORDERED = 'epoch_ordered'
BATCH_SIZE = 256


@HOOKS.register_module()
class HardBatchHook(Hook):
    """Gives a ``HardBatchSampler`` the order of each epoch.

    Persons are as alike as the embeddings of a caption of each, drawn anew for every epoch. The
    text tower alone runs, so this takes seconds where an epoch takes minutes. The order is in every
    checkpoint, so that a run resumed within an epoch goes on with it.
    """

    # After the samplers have been told the epoch.
    priority = 'BELOW_NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Checks the sampler.

        Raises:
            ValueError: If it is another one.
        """
        sampler = runner.train_dataloader.sampler
        if not isinstance(sampler, HardBatchSampler):
            raise ValueError(
                'HardBatchHook needs train_dataloader.sampler of type HardBatchSampler, got '
                f'{type(sampler).__name__}'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Draws the order, unless a checkpoint has that of this epoch.

        Raises:
            ValueError: If the checkpoint's is one of other items.
        """
        sampler, hub = runner.train_dataloader.sampler, runner.message_hub
        if hub.get_info(EPOCH_ORDERED) != runner.epoch:
            rng = np.random.default_rng([runner.seed, runner.epoch])
            vectors = self._vectors(runner, rng)
            order = torch.tensor(sampler.draw(vectors, rng))
            # Processes may differ in the last bit of a vector.
            broadcast(order)
            hub.update_info(ORDER, order)
            hub.update_info(EPOCH_ORDERED, runner.epoch)
        sampler.set_order(hub.get_info(ORDER))

    @torch.no_grad()
    def _vectors(self, runner: Runner, rng: np.random.Generator) -> np.ndarray:
        """Embeddings (persons, D) of a caption of each person; every process makes its part."""
        loader, model = runner.train_dataloader, unwrapped(runner.model)
        records = map(
            loader.dataset.get_data_info,
            (int(rng.choice(items)) for items in loader.sampler.items_of_person),
        )
        captions = [record['captions'][0] for record in records]
        rank, world_size = get_dist_info()
        steps = loader.dataset.pipeline.transforms
        # For what is alike, captions need none of the other steps.
        tokenizer = next(step.tokenizer for step in steps if hasattr(step, 'tokenizer'))
        device = next(model.parameters()).device
        model.eval()
        vectors = {}
        for first in range(rank * BATCH_SIZE, len(captions), world_size * BATCH_SIZE):
            tokens = tokenizer(captions[first : first + BATCH_SIZE])
            tokens = tokens.map(lambda ids: torch.from_numpy(ids).to(device))
            vectors[first] = model.embed_text(tokens).float().cpu().numpy()
        model.train()
        parts = {
            first: part for share in all_gather_object(vectors) for first, part in share.items()
        }
        return np.concatenate([parts[first] for first in sorted(parts)])
