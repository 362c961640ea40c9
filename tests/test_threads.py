"""Two threads compute the same bits each time, so that a seed gives its run again."""

import random

import pytest
import torch
from tiny_methods import (
    CONFIGS,
    build_model,
    build_optim_wrapper,
    fix_noise,
    pair_batch,
    step_and_gradients,
    tiny_config,
)

pytestmark = [pytest.mark.numeric, pytest.mark.slow]

# Fewer, and the threads hardly meet.
PAIRS = 512


@pytest.mark.parametrize('method', CONFIGS)
def test_the_gradient_is_the_same_each_time(method):
    config = tiny_config(method)
    # In double precision torch adds in one thread what it adds in several in single.
    model = build_model(config).float()
    wrapper = build_optim_wrapper(config, model)
    for group in wrapper.optimizer.param_groups:
        group['lr'] = 0.0
    batch, noise = pair_batch(PAIRS, seed=0)
    fix_noise(model, noise)
    # Queues and what follows slowly move without a rate, too.
    start = {name: value.clone() for name, value in model.state_dict().items()}

    def gradients():
        model.load_state_dict(start)
        torch.manual_seed(0)
        random.seed(0)
        return step_and_gradients(model, wrapper, batch)[1]

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, *others = (gradients() for _ in range(3))
    finally:
        torch.set_num_threads(threads)
    for other in others:
        assert [name for name in first if not torch.equal(first[name], other[name])] == []
