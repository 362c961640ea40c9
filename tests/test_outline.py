"""A model that gets its numbers from a file is built without drawing any."""

import pytest
import torch
from tiny import clip_config
from torch import nn

from sen_toolbox.inference.outline import NothingDrawn, without_numbers
from sen_toolbox.registry import BACKBONES


def test_an_outline_has_the_shapes_of_the_model():
    config = clip_config((64, 32))
    with without_numbers():
        outline = BACKBONES.build(config)
    shapes = {name: value.shape for name, value in BACKBONES.build(config).state_dict().items()}
    assert {name: value.shape for name, value in outline.state_dict().items()} == shapes
    assert {value.device.type for value in outline.parameters()} == {'meta'}


def test_nothing_is_drawn_but_constants_are_set():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with NothingDrawn():
        BACKBONES.build(clip_config((64, 32)))
        norm = nn.BatchNorm1d(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert norm.weight.tolist() == [1, 1, 1]
    assert norm.bias.tolist() == [0, 0, 0]


@pytest.mark.parametrize(('low', 'high'), [(-2, 2), (1, 2)])
def test_what_draws_until_all_is_within_bounds_comes_to_an_end(low, high):
    in_memory = torch.full((3,), 99.0)
    with NothingDrawn():
        nn.init.trunc_normal_(in_memory, a=low, b=high)
    assert ((low <= in_memory) & (in_memory <= high)).all()


def test_what_is_not_drawn_is_the_mean_or_the_lowest():
    with NothingDrawn():
        assert torch.empty(2).normal_(3, 1).tolist() == [3, 3]
        assert torch.empty(2).normal_(mean=4).tolist() == [4, 4]
        assert torch.empty(2).uniform_(-1, 1).tolist() == [-1, -1]
        assert torch.empty(2).uniform_().tolist() == [0, 0]
