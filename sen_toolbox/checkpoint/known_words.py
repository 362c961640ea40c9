"""Word embeddings of which a file holds some rows: those of words that training met."""

from collections.abc import Mapping

import torch
from torch import Tensor

# The tensor beside the rows that numbers them.
WORD_IDS = 'known_words'


def spread_words(
    state: Mapping[str, Tensor], key: str, table: Tensor, source: object
) -> dict[str, Tensor]:
    """The tensors with the kept rows of the word embedding spread over the whole vocabulary.

    Args:
        state: Tensors of a file, with ``WORD_IDS`` if it keeps some rows alone.
        key: Name of the word embedding.
        table: The embedding of the model, (V, D); its values do not count. Other rows are zeros.
        source: The file, for messages.

    Raises:
        ValueError: If the numbers are not rows of the embedding.
    """
    state = dict(state)
    ids = state.pop(WORD_IDS, None)
    if ids is None:
        return state
    given = state.get(key)
    if (
        given is None
        or ids.dtype != torch.int32
        or ids.shape != given.shape[:1]
        or given.shape[1:] != table.shape[1:]
        or given.dtype != torch.float32
        or not ((ids >= 0) & (ids < len(table))).all()
    ):
        raise ValueError(f'{source}: {WORD_IDS} must number the rows of {key}')
    state[key] = torch.zeros(table.shape).index_copy(0, ids.long(), given)
    return state
