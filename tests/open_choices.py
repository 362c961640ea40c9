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


def alternatives(project: str) -> list[str]:
    """The overrides of the model in its README, each the other side of an open choice."""
    texts = quoted(f'projects/{project}/README.md')
    return [text for text in texts if is_override(text) and text.startswith('model.')]


def step_with(project: str, text: str) -> dict[str, Tensor]:
    """What a training step of its tiny config logs with an override."""
    args = tool('train').parse_args(['any', '--cfg-options', *text.split()])
    config = tiny_config(project, args.cfg_options)
    model = build_model(config)
    batch, _ = pair_batch(8, seed=0)
    return step_and_gradients(model, build_optim_wrapper(config, model), batch)[0]
