"""Recurrent layers in ONNX: an operator that an export keeps whole, and what it is there."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# Rows of a gate in torch's weights, in the order of ONNX: input, output, forget and cell of an LSTM
# (torch: input, forget, cell, output), update, reset and new of a GRU (torch: reset, update, new).
GATES = {'LSTM': (0, 3, 1, 2), 'GRU': (1, 0, 2)}


@torch.library.custom_op(
    'sen_toolbox::recurrence',
    mutates_args=(),
    schema='(Tensor words, Tensor[] weights, Tensor[] start, str kind) -> Tensor',
)
def recurrence(
    words: Tensor, weights: Sequence[Tensor], start: Sequence[Tensor], kind: str
) -> Tensor:
    """States (T, L, H) of one direction of a layer, as ``states_of`` has them.

    Args:
        words: Words (T, L, E).
        weights: Of the input and of the state, and the biases of both, if it has some.
        start: States before the first word, (1, T, H) each.
        kind: 'LSTM' or 'GRU'.
    """
    given = tuple(start) if kind == 'LSTM' else start[0]
    function = torch.lstm if kind == 'LSTM' else torch.gru
    options = (list(weights), len(weights) == 4, 1, 0.0, False, False, True)
    return function(words, given, *options)[0].clone()


@recurrence.register_fake
def _shape(words: Tensor, weights: Sequence[Tensor], start: Sequence[Tensor], kind: str) -> Tensor:
    return words.new_empty(words.shape[0], words.shape[1], start[0].shape[2])


def in_onnx(words: Any, weights: Sequence, start: Sequence, kind: str) -> Any:
    """The operator ``LSTM`` or ``GRU``; arguments are those of :func:`recurrence`."""
    from onnxscript import opset18 as op

    rows = GATES[kind]
    size = weights[1].shape[1]
    first, one, end = (op.Constant(value_ints=[value]) for value in (0, 1, 3))
    order = op.Constant(value_ints=[row * size + i for row in rows for i in range(size)])
    gates = [op.Unsqueeze(op.Gather(weight, order, axis=0), first) for weight in weights]
    bias = op.Concat(*gates[2:], axis=1) if gates[2:] else None
    # A row of zeros goes along: onnxruntime reads no empty batch.
    shape = op.Shape(words)
    row = op.CastLike(op.ConstantOfShape(op.Concat(one, op.Slice(shape, one, end), axis=0)), words)
    read = op.Transpose(op.Concat(words, row, axis=0), perm=[1, 0, 2])
    zero = op.CastLike(op.ConstantOfShape(op.Constant(value_ints=[1, 1, size])), words)
    before = [op.Concat(state, zero, axis=1) for state in start]
    if kind == 'LSTM':
        states, *_ = op.LSTM(read, *gates[:2], bias, None, *before, hidden_size=size)
    else:
        options = dict(hidden_size=size, linear_before_reset=1)
        states, *_ = op.GRU(read, *gates[:2], bias, None, *before, **options)
    # (L, 1, T + 1, H), of which 1 is the number of directions.
    joined = op.Transpose(op.Squeeze(states, one), perm=[1, 0, 2])
    return op.Slice(joined, first, op.Slice(shape, first, one), first)


TRANSLATION: dict[Any, Callable] = {torch.ops.sen_toolbox.recurrence.default: in_onnx}
