"""What the README of a method without official code says could have been chosen otherwise."""

from test_documented_commands import is_override, quoted, tool
from tiny_methods import (
    build_model,
    build_optim_wrapper,
    pair_batch,
    step_and_gradients,
    tiny_config,
)
from torch import Tensor


def alternatives(project: str) -> list[dict]:
    """The overrides of the model in its README, together where they do not exclude each other."""
    groups: list[dict] = []
    for text in quoted(f'projects/{project}/README.md'):
        if is_override(text) and text.startswith('model.'):
            given = tool('train').parse_args(['any', '--cfg-options', *text.split()]).cfg_options
            group = next((group for group in groups if not exclude(group, given)), None)
            if group is None:
                groups.append(group := {})
            group.update(given)
    return groups


def exclude(first: dict, second: dict) -> bool:
    """Whether a value of one is the same as a value of the other, or a part of it."""
    keys = [(f'{a}.', f'{b}.') for a in first for b in second]
    return any(a.startswith(b) or b.startswith(a) for a, b in keys)


def step_with(project: str, overrides: dict) -> dict[str, Tensor]:
    """What a training step of its tiny config logs with other values."""
    config = tiny_config(project, overrides)
    model = build_model(config)
    batch, _ = pair_batch(8, seed=0)
    return step_and_gradients(model, build_optim_wrapper(config, model), batch)[0]
