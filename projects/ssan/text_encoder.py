"""One recurrent layer that reads a caption twice, by two tables of words."""

import torch
from torch import nn

from sen_toolbox.models.features import TextFeatures
from sen_toolbox.models.requests import check_text_request
from sen_toolbox.models.text_encoders import RecurrentTextEncoder
from sen_toolbox.registry import TEXT_ENCODERS
from sen_toolbox.text.tokens import Tokens


@TEXT_ENCODERS.register_module()
class TwofoldTextEncoder(RecurrentTextEncoder):
    """A :class:`RecurrentTextEncoder` with a second table of words.

    ``tokens`` are the states of the words of the first table, ``extra.local`` those of the second,
    0 behind a caption. The embedding is that of the first.

    Args:
        **options: Those of ``RecurrentTextEncoder``.
    """

    provides = frozenset({'tokens', 'extra.local'})

    def __init__(self, **options) -> None:
        super().__init__(**options)
        first = self.word_embedding
        self.local_embedding = nn.Embedding(first.num_embeddings, first.embedding_dim)

    def forward(self, tokens: Tokens, reads: frozenset[str] = frozenset()) -> TextFeatures:
        """Encodes captions of up to ``spec.context_length`` tokens.

        Args:
            tokens: The captions.
            reads: Names of features.

        Raises:
            ValueError: If the captions are longer, or if it has no such features.
        """
        if 'extra.local' not in reads:
            return super().forward(tokens, reads)
        check_text_request(self, tokens, reads)
        lengths = tokens.lengths.clamp(min=1)
        # In one pass: as many steps of the recurrence as one table needs.
        words = torch.cat([self.word_embedding(tokens.ids), self.local_embedding(tokens.ids)])
        # Not by chunk(2), which an export cannot do with any number of captions.
        both, count = self.states(words, lengths.repeat(2)), tokens.ids.shape[0]
        states, local = both[:count], both[count:]
        return TextFeatures(
            self.pool(states, lengths),
            tokens=states if 'tokens' in reads else None,
            mask=tokens.mask,
            end=tokens.end,
            extra=dict(local=local),
        )
