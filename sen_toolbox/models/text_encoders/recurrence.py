"""What the encoders with recurrent layers share: states of words, and what stands for a caption."""

import torch
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
    # Torch wants the lengths on the CPU: on a GPU this waits for it, once a step.
    packed = pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
    packed, _ = rnn(packed)
    if average_directions:
        packed = packed._replace(data=packed.data.unflatten(1, (2, -1)).mean(dim=1))
    return pad_packed_sequence(packed, batch_first=True, total_length=words.shape[1])[0]


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
