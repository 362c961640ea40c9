"""Checks that a checkpoint is one from which a training goes on exactly."""

import copy
import numbers
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sen_toolbox.checkpoint.values import not_dense
from sen_toolbox.checks import checked_whole_number, is_whole_number
from sen_toolbox.messages import shown

# What MMEngine writes of every training; a file of the best epoch has no optimiser.
PARTS = ('state_dict', 'optimizer', 'message_hub', 'meta')
HUB_PARTS = ('log_scalars', 'runtime_info', 'resumed_keys')
# NumPy takes no larger seed.
SEEDS = 2**32
# What of a group of parameters or of a schedule moves during a training.
MOVING = {'lr', 'momentum', 'betas', 'last_step', 'best', 'num_bad_epochs', 'cooldown_counter'}


def check_resumable(content: Any, source: str | Path) -> dict:
    """The ``meta`` of a checkpoint with everything that a training needs to go on.

    Args:
        content: What a file holds.
        source: Named in the error.

    Raises:
        ValueError: If something is missing or is not what a training writes; says what to do.
    """
    if not isinstance(content, Mapping):
        raise ValueError(
            f'{source} holds a {type(content).__name__}, not the checkpoint of a training'
        )
    if missing := [part for part in PARTS if part not in content]:
        raise ValueError(
            f'{source} has no {", ".join(missing)}, so no training goes on from it: resume from an '
            'epoch_N.pth (--resume alone takes the newest of the work dir), or start a new '
            f'training from these weights by --cfg-options load_from={source}'
        )
    for part in PARTS:
        _check_names(content[part], f'{part} of {source}')
    for part in HUB_PARTS:
        _check_names(content['message_hub'].get(part), f'message_hub.{part} of {source}')
    # Averaged weights, which change places with the others.
    averaged = content.get('ema_state_dict', {})
    _check_names(averaged, f'ema_state_dict of {source}')
    for key in averaged:
        if key.startswith('module.') and key.removeprefix('module.') not in content['state_dict']:
            raise ValueError(f'{source} has averaged weights of {shown(key)} and no others')
    resumed = content['message_hub']['resumed_keys']
    if others := [key for key, value in resumed.items() if not isinstance(value, bool)]:
        raise ValueError(
            f'message_hub.resumed_keys of {source} must be yes or no for each name, got '
            f'{shown(resumed[others[0]])}'
        )
    meta = content['meta']
    for key in ('epoch', 'iter'):
        checked_whole_number(f'{key} in meta of {source}', meta.get(key))
    seed = meta.get('seed')
    if seed is not None and not (is_whole_number(seed) and seed < SEEDS):
        raise ValueError(
            f'meta of {source} has the seed {shown(seed)}, expected a whole number below 2**32'
        )
    return meta


def check_fits_training(
    content: Mapping[str, Any],
    source: str | Path,
    *,
    optimizer: Optimizer,
    schedulers: Sequence[Any],
) -> None:
    """Checks the states of optimiser and schedules of a checkpoint against those of the training.

    Args:
        content: A checkpoint that ``check_resumable`` has passed.
        source: Named in the error.
        optimizer: The training's own.
        schedulers: The training's own; each has a ``state_dict()``.

    Raises:
        ValueError: Names the first that does not fit.
    """
    saved = content['optimizer']
    where = f'the optimizer of {source}'
    groups, states = saved.get('param_groups'), saved.get('state')
    own = optimizer.state_dict()['param_groups']
    given = [len(g['params']) for g in groups] if _are_groups(groups) else None
    sizes = [len(group['params']) for group in own]
    if given != sizes:
        raise ValueError(
            f'{where} has groups of {given or shown(groups)} parameters, that of this training '
            f'{sizes}: '
            'resume with the config of the checkpoint'
        )
    for number, (ours, theirs) in enumerate(zip(own, groups, strict=True)):
        _check_alike(ours, theirs, f'{where}, group {number},')
    # torch counts the parameters through all groups, which may keep different values.
    ids = [index for group in groups for index in group['params']]
    parameters = [p for group in optimizer.param_groups for p in group['params']]
    if not isinstance(states, Mapping):
        raise ValueError(f'{where} has a {type(states).__name__} for its state')
    shapes = dict(zip(ids, [p.shape for p in parameters], strict=True))
    kept = {
        index: values
        for ours, theirs in zip(optimizer.param_groups, groups, strict=True)
        for values in [_state_after_a_step(optimizer, ours)]
        for index in theirs['params']
    }
    for index, state in states.items():
        expected = kept.get(index, {})
        # A parameter that had no gradient yet has an empty state, or none.
        if index not in shapes or not isinstance(state, Mapping) or set(state) - set(expected):
            raise ValueError(
                f'{where} has for parameter {shown(index)} the state {shown(state)}, expected '
                f'{", ".join(expected) or "none"} of one of {len(shapes)} parameters'
            )
        if missing := [key for key in expected if state and key not in state]:
            raise ValueError(f'{where} has for parameter {index} no {", ".join(missing)}')
        for key, value in state.items():
            if isinstance(value, numbers.Real) and not expected[key]:
                continue  # the step in older versions of torch
            why = not_dense(value)
            is_fit = not why and (
                value.shape == shapes[index] if expected[key] else value.numel() == 1
            )
            if not is_fit:
                found = shown(value) if why else tuple(value.shape)
                raise ValueError(
                    f'{where} has for parameter {index} the {key} {found}, expected '
                    + (f'a tensor of shape {tuple(shapes[index])}' if expected[key] else 'a number')
                )
    schedules = content.get('param_schedulers', [])
    if not isinstance(schedules, list) or len(schedules) != len(schedulers):
        count = len(schedules) if isinstance(schedules, list) else f'a {type(schedules).__name__}'
        raise ValueError(
            f'{source} has {count} for param_schedulers, this training has {len(schedulers)}: '
            'resume with the config of the checkpoint'
        )
    for number, (ours, theirs) in enumerate(zip(schedulers, schedules, strict=True)):
        where = f'param_schedulers.{number} of {source}'
        _check_names(theirs, where)
        if unknown := sorted(set(theirs) - set(ours.state_dict())):
            raise ValueError(f'{where} has unknown values, {shown(unknown)}')
        _check_alike(ours.state_dict(), theirs, where)


def settings_kept(
    content: Mapping[str, Any], *, optimizer: Optimizer, schedulers: Sequence[Any]
) -> list[str]:
    """What a training goes on with though its config says otherwise, each in a few words.

    Args:
        content: A checkpoint that ``check_fits_training`` has passed.
        optimizer: The training's own, before the checkpoint is loaded.
        schedulers: The training's own.
    """
    groups = zip(optimizer.param_groups, content['optimizer']['param_groups'], strict=True)
    states = zip(schedulers, content.get('param_schedulers', []), strict=True)
    pairs = [('optimizer', *pair) for pair in groups]
    pairs += [
        (f'param_schedulers.{number}', ours.state_dict(), theirs)
        for number, (ours, theirs) in enumerate(states)
    ]
    found: dict[tuple[str, str], str] = {}
    for where, ours, theirs in pairs:
        for key in sorted(ours.keys() & theirs.keys() - MOVING):
            is_setting = isinstance(ours[key], numbers.Real) and not key.startswith('_')
            if is_setting and ours[key] != theirs[key]:
                # Groups differ in number, and the first tells.
                found.setdefault((where, key), f'{where} {key}={theirs[key]}, not {ours[key]}')
    return list(found.values())


def _check_names(value: Any, what: str) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f'{what} is a {type(value).__name__}, expected a dict')
    if others := [key for key in value if not isinstance(key, str)]:
        raise ValueError(f'{what} has keys that are not names, the first is {shown(others[0])}')


def _state_after_a_step(optimizer: Optimizer, group: Mapping[str, Any]) -> dict[str, bool]:
    """What it keeps of a parameter of this group: whether each value has the parameter's shape."""
    trial = copy.copy(optimizer)
    parameter = group['params'][0].new_zeros(2, 3).requires_grad_()
    parameter.grad = torch.zeros_like(parameter)
    trial.state = defaultdict(dict)
    trial.param_groups = [{**group, 'params': [parameter]}]
    trial.step()
    return {
        key: isinstance(value, Tensor) and value.shape == parameter.shape
        for key, value in trial.state[parameter].items()
    }


def _are_groups(groups: Any) -> bool:
    return isinstance(groups, list) and all(
        isinstance(group, Mapping)
        and isinstance(group.get('params'), list)
        and all(map(is_whole_number, group['params']))
        for group in groups
    )


def _check_alike(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> None:
    """Numbers where there are numbers, and as many; values that one side alone has do not count."""
    for key in set(ours) & set(theirs):
        # Switches of an optimiser are None where torch decides.
        is_switch = ours[key] is None or isinstance(ours[key], bool)
        left_open = is_switch and (
            theirs[key] is None or (ours[key] is None and isinstance(theirs[key], numbers.Real))
        )
        if not left_open and _kind(ours[key]) != _kind(theirs[key]):
            raise ValueError(
                f'{where} has the {key} {shown(theirs[key])}, expected {shown(ours[key])}'
            )


def _kind(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_kind(item) for item in value]
    return 'number' if isinstance(value, numbers.Real) else type(value)
