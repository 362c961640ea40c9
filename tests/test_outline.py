"""A model that gets its numbers from a file is built without drawing any."""

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
