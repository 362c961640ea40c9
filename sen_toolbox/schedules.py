"""Fits the warm-up of a learning rate to a training that is shorter than the published one."""

from collections.abc import MutableMapping, Sequence


def fit_warm_up(schedulers: Sequence[MutableMapping], max_epochs: int) -> str:
    """Shortens a warm-up that would take more than half of a training, in place.

    Schedules are written for the published number of epochs. With fewer, a warm-up would end
    after the training and the rate never be the one that the config names. What begins within the
    warm-up (a cosine that follows it) begins with its new end. A training of one epoch has no
    warm-up; half an epoch may be less than an iteration.

    Args:
        schedulers: Configs of MMEngine's schedulers. Warm-ups are those of type ``LinearLR`` that
            rise and are counted in epochs.
        max_epochs: Length of the training.

    Returns:
        What was shortened, for a log; empty if nothing.

    >>> schedule = [dict(type='LinearLR', start_factor=0.1, end=6),
    ...             dict(type='CosineAnnealingLR', begin=5, end=4)]
    >>> fit_warm_up(schedule, max_epochs=4)
    'the warm-up takes 2 of the 4 epochs, not 5'
    >>> schedule[0]['end'], schedule[1]['begin']
    (3, 2)
    """
    said = ''
    for warm_up in filter(_is_warm_up, schedulers):
        by_iteration = warm_up.get('convert_to_iter_based', False)
        begin, end = warm_up.get('begin', 0), warm_up['end']
        # Counted in epochs from 0, the last epoch of the warm-up has the full rate already.
        full = end if by_iteration else end - 1
        most = max_epochs // 2
        if full <= most:
            continue
        for other in schedulers:
            starts = other.get('begin', 0)
            if other is not warm_up and other.get('by_epoch', True) and most < starts <= end:
                other['begin'] = most
        if most > begin:
            warm_up['end'] = most if by_iteration else most + 1
        else:
            warm_up.update(start_factor=warm_up.get('end_factor', 1.0), end=begin + 1)
        said = f'the warm-up takes {most} of the {max_epochs} epochs, not {full:g}'
    return said


def _is_warm_up(scheduler: MutableMapping) -> bool:
    rises = scheduler.get('start_factor', 1 / 3) < scheduler.get('end_factor', 1.0)
    counted_in_epochs = scheduler.get('by_epoch', True) and 'end' in scheduler
    return scheduler.get('type') == 'LinearLR' and rises and counted_in_epochs
