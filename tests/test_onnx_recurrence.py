"""Recurrent layers in ONNX compute what torch's do, for any number and length of captions."""

import numpy as np
import pytest
import torch
from torch import nn

from sen_toolbox.inference.onnx_recurrence import in_onnx, recurrence
from sen_toolbox.models.text_encoders.recurrence import states_of


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('kind', [nn.LSTM, nn.GRU])
@pytest.mark.parametrize(('captions', 'length'), [(3, 5), (1, 1), (0, 4)])
def test_states_are_those_of_torch(kind, bias, captions, length):
    torch.manual_seed(0)
    layer = kind(4, 6, bias=bias, batch_first=True).eval()
    words = torch.randn(captions, length, 4)
    start = tuple(torch.randn(1, captions, 6) for _ in range(2 if kind is nn.LSTM else 1))
    with torch.no_grad():
        expected = states_of(layer, words, start=start)
        if captions:  # of none torch's layer computes nothing
            reference, _ = layer(words, start if kind is nn.LSTM else start[0])
            torch.testing.assert_close(expected, reference)
        [weights] = layer.all_weights
        kept_whole = recurrence(words, weights, start, layer.mode)
    torch.testing.assert_close(kept_whole, expected)
    arrays = [tensor.detach().numpy() for tensor in (words, *weights, *start)]
    given, weights, start = arrays[0], arrays[1 : len(weights) + 1], arrays[len(weights) + 1 :]
    found = in_onnx(given, weights, start, layer.mode).value
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert found.shape == (captions, length, 6)


@pytest.mark.parametrize('kind', [nn.LSTM, nn.GRU])
def test_torch_exports_recurrent_layers_for_one_length_only(kind):
    """Once it does better, the operator can go."""
    layer, length = kind(2, 2), torch.export.Dim('length', max=9)
    words = torch.randn(5, 3, 2)
    with pytest.raises(Exception, match='Constraints violated|assigned during export'):
        torch.export.export(layer, (words,), dynamic_shapes=({0: length},), strict=False)
