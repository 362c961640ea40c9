"""A warm-up and a cosine between rates that are the same for all parameters."""

import math

from mmengine.optim import _ParamScheduler

from sen_toolbox.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class FlooredCosineLR(_ParamScheduler):
    """Rises linearly from ``start_lr`` and falls by a cosine to ``final_lr``, counted from epoch 1.

    Each parameter's own rate is the height of both; start and end are the same for all. The cosine
    begins at epoch 0, so it is no longer at its height when it takes over. A training of less than
    twice the warm-up warms up for half of its epochs and walks the beginning of a cosine of twice
    the warm-up.

    Args:
        start_lr: Rate from which the warm-up rises, that of epoch 0, which does not run.
        warm_up: Epochs of the warm-up.
        final_lr: Rate of the last epoch.
        epochs: The last epoch.
        **options: Those of MMEngine's schedulers.
    """

    def __init__(
        self, optimizer, *, start_lr: float, warm_up: int, final_lr: float, epochs: int, **options
    ) -> None:
        self.start_lr, self.warm_up = start_lr, min(warm_up, epochs // 2)
        self.final_lr, self.epochs = final_lr, max(epochs, 2 * warm_up)
        super().__init__(optimizer, param_name='lr', **options)

    def _get_value(self) -> list[float]:
        return [self._rate(base) for base in self.base_values]

    def _rate(self, base: float) -> float:
        epoch = self.last_step + 1
        if epoch < self.warm_up:
            return self.start_lr + epoch * (base - self.start_lr) / self.warm_up
        height = (1 + math.cos(math.pi * min(epoch, self.epochs) / self.epochs)) / 2
        return self.final_lr + (base - self.final_lr) * height
