"""Batch norm whose statistics do not depend on how many processes share a batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn

from sen_toolbox.models.gather import gather_all, widened


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the batch of all ranks; torch's own, ``SyncBatchNorm``, needs a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalises rows (R, C) or maps (B, C, ...); every rank holds the same number of them.

        Raises:
            ValueError: If there is nothing to average in training.
        """
        if not self.training or get_world_size() == 1:
            self._check_count(x)
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            wide = widened(x)
            mean, variance = _moments_over_ranks(wide)
            with torch.no_grad():
                count = x.numel() // x.shape[1] * get_world_size()
                self._learn(mean.flatten(), variance.flatten(), count)
                self.num_batches_tracked += 1
            normal = (wide - mean) * (variance + self.eps).rsqrt()
            weight, bias = (p.view(mean.shape) for p in (self.weight, self.bias))
            return (normal * weight + bias).to(x.dtype)

    def _learn(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Moves the running statistics by the mean and the biased variance (C,) of a batch.

        Args:
            mean: The mean.
            variance: The variance.
            count: Over how many values they are.
        """
        unbiased = variance * count / (count - 1)
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)

    def _check_count(self, x: Tensor) -> None:
        if self.training and x.numel() == x.shape[1]:
            raise ValueError(
                f'batch norm needs more than one value of each channel in training, got '
                f'{tuple(x.shape)}: take a larger batch, or train_dataloader.drop_last=True where '
                'the last one is of one pair'
            )

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f'expected rows (R, C) or maps (B, C, ...), got {tuple(x.shape)}')


def _moments_over_ranks(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (1, C, 1, ...) of ``x`` (B, C, ...) of all ranks."""
    others = [dim for dim in range(x.ndim) if dim != 1]
    variance, mean = torch.var_mean(x, others, correction=0, keepdim=True)
    variances, means = gather_all(variance, mean)
    mean = means.mean(dim=0, keepdim=True)
    # Within the ranks and between them.
    return mean, (variances + (means - mean).square()).mean(dim=0, keepdim=True)


def use_global_batch_norm(module: nn.Module) -> None:
    """Puts a :class:`GlobalBatchNorm` in the place of every batch norm of maps in a module."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            module.add_module(name, GlobalBatchNorm(child.num_features, child.eps, child.momentum))
            module.get_submodule(name).load_state_dict(child.state_dict())
        else:
            use_global_batch_norm(child)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Within it the batch norms of a module normalise as ever, but learn no running statistics.

    For pictures and captions of another kind than is searched, which would spoil them.
    """
    norms = [n for n in module.modules() if isinstance(n, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
