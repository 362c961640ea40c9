"""Confident consensus division of RDE: which training pairs belong together."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather, broadcast
from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import HOOKS

from .mixture import lower_component

# Kept in the message hub, which MMEngine saves in every checkpoint.
CLEAN_PAIRS = 'clean_pairs'
EPOCH_DIVIDED = 'epoch_divided'


@HOOKS.register_module()
class ConsensusDivisionHook(Hook):
    """Before each epoch splits the pairs into clean and noisy by the losses of several heads.

    RDE, arXiv:2308.09911. As released: the losses are those of the augmented training batches, in
    evaluation mode, from the first epoch on; scaled to 0..1, those of each head are split by a
    mixture of two normal distributions. What all heads find clean is clean, what all find noisy is
    noisy, and a coin decides on the rest. Training batches get ``pair_weights`` (B,), 1 for clean
    pairs and 0 for noisy ones.

    The division is kept in the message hub under ``clean_pairs`` (pairs of the training split,
    boolean), hence in every checkpoint, so that a run resumed within an epoch goes on with it.

    The pipeline must end with ``PackPair(per_image=['sample_idx'])``.

    Args:
        heads: Names of heads that have ``pair_losses(pair, batch)``.
        max_iterations: Rounds of expectation maximisation at most. The release takes 10, or 100
            for RSTPReid and for noise above 40 %.
        tolerance: Gain of the mean log-likelihood below which they end; 1e-2, or 1e-4.
        variance_floor: Added to each variance; 5e-4, or 1e-6.
    """

    # After the samplers have been told the epoch.
    priority = 'BELOW_NORMAL'

    def __init__(
        self,
        *,
        heads: Sequence[str],
        max_iterations: int = 10,
        tolerance: float = 1e-2,
        variance_floor: float = 5e-4,
    ) -> None:
        self.heads = tuple(heads)
        self._clean_pairs = partial(
            clean_pairs,
            max_iterations=max_iterations,
            tolerance=tolerance,
            variance_floor=variance_floor,
        )

    def before_train_epoch(self, runner: Runner) -> None:
        """Divides the pairs, unless a checkpoint has the division of this epoch."""
        if runner.message_hub.get_info(EPOCH_DIVIDED) == runner.epoch:
            return
        losses = self._losses(runner)
        # A sampler may leave pairs out of an epoch: they count as clean.
        seen = ~np.isnan(losses).any(axis=0)
        votes = np.sum([self._clean_pairs(row[seen]) for row in losses], axis=0)
        # A seed of its own, so that a resumed run throws the same coins.
        coin = np.random.default_rng([runner.seed, runner.epoch]).integers(0, 2, len(votes))
        clean = torch.ones(losses.shape[1], dtype=torch.uint8)
        decided = np.where(coin == 1, votes > 0, votes == len(self.heads))
        clean[torch.from_numpy(seen)] = torch.from_numpy(decided).to(torch.uint8)
        # Ranks may differ in the last bit of a loss.
        broadcast(clean)
        runner.message_hub.update_info(CLEAN_PAIRS, clean.bool())
        runner.message_hub.update_info(EPOCH_DIVIDED, runner.epoch)
        differed = (votes > 0) & (votes < len(self.heads))
        runner.logger.info(
            f'{int(clean.sum()):,} of {len(clean):,} pairs count as clean; '
            f'the heads differed on {int(differed.sum()):,}'
        )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Weights the pairs of the batch."""
        clean = runner.message_hub.get_info(CLEAN_PAIRS)
        data_batch['pair_weights'] = clean[data_batch['sample_idx']].float()

    @torch.no_grad()
    def _losses(self, runner: Runner) -> np.ndarray:
        """Loss (heads, pairs) of each pair of the training split; nan for those not drawn."""
        model = unwrapped(runner.model)
        model.eval()
        losses = torch.full((len(self.heads), len(runner.train_dataloader.dataset)), torch.nan)
        for batch in runner.train_dataloader:
            if 'sample_idx' not in batch:
                raise KeyError(
                    "the batch has no 'sample_idx': end the training pipeline with "
                    "PackPair(per_image=['sample_idx'])"
                )
            if 'image_of' in batch:
                raise ValueError(
                    'ConsensusDivisionHook divides samples of one caption each, got '
                    f'{len(batch["tokens"])} captions of {len(batch["sample_idx"])} images'
                )
            batch = model.data_preprocessor(batch, training=True)
            with runner.optim_wrapper.optim_context(runner.model):
                pair = model.backbone(batch['images'], batch['tokens'], model.reads)
                values = [model.heads[name].pair_losses(pair, batch) for name in self.heads]
            index = torch.cat(all_gather(batch['sample_idx'])).cpu()
            losses[:, index] = torch.stack(values).float().cpu()
        model.train()
        return losses.numpy()


def clean_pairs(
    losses: np.ndarray, *, max_iterations: int, tolerance: float, variance_floor: float
) -> np.ndarray:
    """Whether each of the losses (n,) belongs to the component of the lower ones.

    Equal losses are all clean.

    Args:
        losses: Losses (n,).
        max_iterations: See ``ConsensusDivisionHook``.
        tolerance: See there.
        variance_floor: See there.
    """
    span = losses.max() - losses.min()
    if span == 0:
        return np.ones(len(losses), dtype=bool)
    probability = lower_component(
        (losses - losses.min()) / span,
        max_iterations=max_iterations,
        tolerance=tolerance,
        variance_floor=variance_floor,
    )
    return likely(probability)


def likely(probability: np.ndarray) -> np.ndarray:
    """Whether each probability (n,) is above a half.

    If all are, the lowest hundredth, at least one, is taken for unlikely (RDE release, after NCR).
    """
    threshold = 0.5
    if probability.min() > threshold:
        threshold = np.sort(probability)[len(probability) // 100]
    return probability > threshold
