"""Says beforehand if a schedule keeps the learning rate low, or is over before the training."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.registry import HOOKS, PARAM_SCHEDULERS

# Schedules of which one rises while the other falls never quite reach their base rate.
LEAST = 0.5
# Share of the base rate at which nothing is learnt any more.
IDLE = 1e-4


def rate_course(
    schedulers: Sequence[Mapping], lr: float, *, epochs: int, epoch_length: int
) -> Iterator[float]:
    """The largest learning rate of each epoch.

    Args:
        schedulers: Configs of schedulers.
        lr: The base rate.
        epochs: Length of the training.
        epoch_length: Iterations of an epoch.
    """
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    given = dict(optimizer=optimizer, epoch_length=epoch_length)
    built = []
    for one in schedulers:
        known = given if one.get('convert_to_iter_based') else dict(optimizer=optimizer)
        built.append(PARAM_SCHEDULERS.build(dict(one), default_args=known))
    by_iteration = [scheduler for scheduler in built if not scheduler.by_epoch]
    by_epoch = [scheduler for scheduler in built if scheduler.by_epoch]
    [group] = optimizer.param_groups
    for _ in range(epochs):
        rates = []
        for _ in range(epoch_length if by_iteration else 1):
            rates.append(group['lr'])
            optimizer.step()
            for scheduler in by_iteration:
                scheduler.step()
        yield max(rates)
        for scheduler in by_epoch:
            scheduler.step()


def rate_faults(course: Sequence[float], lr: float) -> list[str]:
    """What is wrong with the largest rate of each epoch; empty if nothing.

    >>> rate_faults([0.1, 0.4], lr=1.0)
    ['the learning rate never reaches lr=1, at most 0.4 of it']
    >>> rate_faults([1.0, 0.5, 0.0, 0.0], lr=1.0)
    ['the learning rate stays at 0 from epoch 3 on']
    """
    faults = []
    if max(course) < LEAST * lr:
        faults.append(
            f'the learning rate never reaches lr={lr:g}, at most {max(course) / lr:.2g} of it'
        )
    still = next(epoch for epoch in range(len(course)) if len(set(course[epoch:])) == 1)
    if course[-1] < IDLE * lr and still < len(course) - 1:
        faults.append(f'the learning rate stays at {course[-1]:.2g} from epoch {still + 1} on')
    return faults


@HOOKS.register_module()
class RateCheckHook(Hook):
    """Warns before a training if its schedule keeps the learning rate low or lets it end early."""

    def before_train(self, runner: Runner) -> None:
        """Walks through the schedule once."""
        schedulers = runner.cfg.get('param_scheduler') or []
        schedulers = [schedulers] if isinstance(schedulers, Mapping) else schedulers
        lr = runner.cfg.optim_wrapper.get('optimizer', {}).get('lr')
        # Other shapes of these values are MMEngine's affair, for instance several optimisers.
        if not lr or not isinstance(schedulers, list) or runner.max_epochs is None:
            return
        course = list(
            rate_course(
                schedulers,
                lr,
                epochs=runner.max_epochs,
                epoch_length=len(runner.train_dataloader),
            )
        )
        for fault in rate_faults(course, lr):
            runner.logger.warning(f'{fault}: see param_scheduler and max_epochs in the config')
