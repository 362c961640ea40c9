"""What the encoders with recurrent layers share: states of words, and what stands for a caption."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sen_toolbox.models.gather import gather

KINDS = {'lstm': nn.LSTM, 'gru': nn.GRU}
# Ways to one embedding from the states of a caption's words.
POOLINGS = ('max', 'mean', 'last')


def recurrent_states(
    rnn: nn.RNNBase, words: Tensor, lengths: Tensor, *, average_directions: bool
) -> Tensor:
    """States (T, L, W) of embedded words (T, L, E), 0 behind the first ``lengths`` (T,).

    Args:
        rnn: The layer.
        words: The words.
        lengths: How many of each row are read, from 1.
        average_directions: Whether a state is the mean of both directions.
    """
    if torch.compiler.is_exporting() or (isinstance(rnn, nn.LSTM) and _by_onednn(words)):
        return unpacked_states(rnn, words, lengths, average_directions)
    return packed_states(rnn, words, lengths, average_directions)


def _by_onednn(words: Tensor) -> bool:
    """Whether oneDNN computes an LSTM that reads the words, if they are not packed."""
    if words.device.type != 'cpu':
        return False
    autocast = torch.is_autocast_enabled('cpu')
    dtype = torch.get_autocast_dtype('cpu') if autocast else words.dtype
    if dtype == torch.bfloat16 and torch.backends.mkldnn.is_available():
        # Where the processor has no AVX-512, oneDNN has none in bfloat16, and torch asks it anyway.
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype in (torch.float32, torch.bfloat16)


def packed_states(
    rnn: nn.RNNBase, words: Tensor, lengths: Tensor, average_directions: bool
) -> Tensor:
    """:func:`recurrent_states` by torch's packed captions."""
    # Torch wants the lengths on the CPU: on a GPU this waits for it, once a step.
    packed = pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
    packed, _ = rnn(packed)
    if average_directions:
        packed = packed._replace(data=packed.data.unflatten(1, (2, -1)).mean(dim=1))
    return pad_packed_sequence(packed, batch_first=True, total_length=words.shape[1])[0]


def unpacked_states(
    rnn: nn.RNNBase, words: Tensor, lengths: Tensor, average_directions: bool
) -> Tensor:
    """:func:`recurrent_states` on a CPU, where oneDNN computes an LSTM that is not packed.

    Torch's own, of packed captions of several lengths, adds up a gradient of all weights word by
    word, which takes twice as long. oneDNN keeps a copy of the weights until the backward pass.
    """
    width, words = words.shape[1], words[:, : columns_read(lengths, words.shape[1])]
    columns, behind = columns_behind(words, lengths)
    turned = turned_columns(columns, behind, lengths)
    states = []
    for number in range(len(rnn.all_weights)):
        read = states_of(rnn, in_order(words, turned) if number else words, number)
        states.append(in_order(read, turned) if number else read)
    joined = sum(states) / 2 if average_directions else torch.cat(states, dim=2)
    joined = joined.masked_fill(behind[:, :, None], 0)
    return F.pad(joined, (0, 0, 0, width - joined.shape[1]))


def states_of(
    rnn: nn.RNNBase, words: Tensor, number: int = 0, start: tuple[Tensor, ...] | None = None
) -> Tensor:
    """States (T, L, H) of one direction of a layer, from the first word to the last.

    Args:
        rnn: The layer.
        words: Words (T, L, E).
        number: Of the direction whose weights are taken.
        start: The state before the first word, (1, T, H), of an LSTM also that of its cells; None
            for zeros.
    """
    is_lstm = isinstance(rnn, nn.LSTM)
    if start is None:
        zeros = words.new_zeros(1, words.shape[0], rnn.hidden_size)
        start = (zeros, zeros) if is_lstm else (zeros,)
    weights = rnn.all_weights[number]
    if torch.compiler.is_exporting():
        # Of inference/onnx_recurrence.py: torch would write out every step, of one length alone.
        return torch.ops.sen_toolbox.recurrence(words, weights, start, rnn.mode)
    options = (weights, rnn.bias, 1, 0.0, rnn.training, False, True)
    return (
        torch.lstm(words, start, *options)[0] if is_lstm else torch.gru(words, *start, *options)[0]
    )


def columns_read(lengths: Tensor, width: int) -> int:
    """Up to which of ``width`` columns captions are read.

    That is their longest length (T,), but on a GPU all columns: the host would wait for it. An
    export has one program for all lengths.
    """
    if lengths.device.type != 'cpu' or torch.compiler.is_exporting():
        return width
    return int(lengths.max())


def turned_columns(columns: Tensor, behind: Tensor, lengths: Tensor) -> Tensor:
    """Order (T, L, 1) of columns from the last word to the first; those behind stay there.

    Args:
        columns: Of :func:`columns_behind`.
        behind: Of the same.
        lengths: Number (T,) of words.
    """
    return torch.where(behind, columns, lengths[:, None] - 1 - columns)[:, :, None]


def in_order(rows: Tensor, order: Tensor) -> Tensor:
    """Columns of (T, L, C) in the order (T, L, 1)."""
    return rows.gather(1, order.expand(-1, -1, rows.shape[2]))


def columns_behind(rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers (L,) of the columns of rows (T, L, ...), and which (T, L) are behind ``lengths``."""
    columns = torch.arange(rows.shape[1], device=rows.device)
    return columns, columns >= lengths[:, None]


def maximum_of_words(states: Tensor, behind: Tensor) -> Tensor:
    """The maximum (T, W) of states (T, L, W) but those ``behind`` (T, L) a caption."""
    return states.masked_fill(behind[:, :, None], -torch.inf).amax(dim=1)


def pooled_words(rnn: nn.RNNBase, states: Tensor, lengths: Tensor, pooling: str) -> Tensor:
    """Embeddings (T, W) of states (T, L, W), which are 0 behind the first ``lengths`` (T,).

    Args:
        rnn: The layer that gave the states, with its directions side by side for 'last'.
        states: The states.
        lengths: How many of each row were read.
        pooling: 'max' or 'mean' over a caption, or 'last', the state in which each direction ends.
    """
    if pooling == 'mean':
        return states.sum(dim=1) / lengths[:, None]
    if pooling == 'max':
        return maximum_of_words(states, columns_behind(states, lengths)[1])
    rows = torch.arange(states.shape[0], device=states.device)
    last = states[rows, lengths - 1]
    if not rnn.bidirectional:
        return last
    # The second direction ends at the first word.
    half = rnn.hidden_size
    return torch.cat([last[:, :half], states[:, 0, half:]], dim=1)


def with_padding(maximum: Tensor, lengths: Tensor) -> Tensor:
    """A maximum over words (T, W) that counts 0 for all but the longest captions of all ranks.

    Args:
        maximum: Over the states of each caption.
        lengths: Number (T,) of words.
    """
    shorter = lengths < gather(lengths).max()
    return maximum.masked_fill(shorter[:, None] & (maximum < 0), 0)
