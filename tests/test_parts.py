"""Stripes of a map and linear layers of parts against one part after the other."""

import pytest
import torch
import torch.nn.functional as F

from sen_toolbox.models.parts import PartLinear, stripe_maxima

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize('rows', [12, 24, 6, 4, 13, 1])
def test_stripes_are_those_of_adaptive_pooling(rows):
    maps = torch.randn(2, 5, rows, 3, generator=torch.Generator().manual_seed(0))
    pooled = F.adaptive_max_pool2d(maps, (6, 1))
    assert torch.equal(stripe_maxima(maps, 6), pooled.squeeze(3).transpose(1, 2))


@pytest.mark.parametrize('bias', [False, True])
def test_each_part_has_a_layer_of_its_own(bias):
    torch.manual_seed(0)
    layer, x = PartLinear(3, 4, 5, bias=bias), torch.randn(2, 3, 4)
    if bias:
        torch.nn.init.normal_(layer.bias)
    for part, found in enumerate(layer(x).unbind(dim=1)):
        expected = F.linear(x[:, part], layer.weight[part], layer.bias[part] if bias else None)
        torch.testing.assert_close(found, expected)
