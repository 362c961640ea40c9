"""A recurrent layer that reads what BERT makes of the words."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.checks import checked_at_least
from sen_toolbox.models.features import TextFeatures, TextSpec
from sen_toolbox.models.requests import check_text_request
from sen_toolbox.models.text_encoders.bert import BERT
from sen_toolbox.models.text_encoders.recurrence import (
    KINDS,
    POOLINGS,
    columns_behind,
    pooled_words,
    recurrent_states,
)
from sen_toolbox.registry import TEXT_ENCODERS
from sen_toolbox.text.tokens import Tokens


@TEXT_ENCODERS.register_module()
class RecurrentBERT(nn.Module):
    """BERT, and a bidirectional recurrent layer over its last hidden states.

    ``tokens`` are the states of the layer, 0 behind a caption.

    Args:
        bert: Arguments of :class:`BERT`; its ``pretrained`` is a file of BERT alone.
        hidden_dim: Width of the layer in each direction.
        kind: 'lstm' or 'gru'.
        average_directions: Whether a state is the mean of both directions; else they stand side by
            side.
        bias: Whether the layer has biases.
        pooling: The embedding: 'max' or 'mean' over the states of a caption, or 'last', the state
            in which each direction ends.
        cuts_padding: Whether nothing depends on how many padding tokens follow a caption. True of
            this encoder; set False where what reads the tokens takes padding for words.
        input_dropout: Share of the numbers of BERT's words that training drops.
        padding: Number of padding tokens behind a caption that are read like words, and count as
            such in the ``mask`` of the features; above 0 rows are not cut. Several releases count
            the special tokens twice.

    Raises:
        ValueError: If ``padding`` is below 0, an option is none of its choices, or means of both
            directions are to end somewhere.
    """

    provides = frozenset({'tokens'})

    def __init__(
        self,
        *,
        bert: dict,
        hidden_dim: int,
        kind: str = 'lstm',
        average_directions: bool = True,
        bias: bool = False,
        pooling: str = 'max',
        cuts_padding: bool = True,
        input_dropout: float = 0.0,
        padding: int = 0,
    ) -> None:
        super().__init__()
        for name, value, choices in (('kind', kind, KINDS), ('pooling', pooling, POOLINGS)):
            if value not in choices:
                raise ValueError(f'{name} is one of {list(choices)}, got {value!r}')
        if average_directions and pooling == 'last':
            raise ValueError(
                "pooling='last' takes each direction apart: set average_directions=False"
            )
        self.average_directions, self.pooling = average_directions, pooling
        self.padding = checked_at_least('padding', padding, 0)
        self.bert = BERT(**bert)
        self.input_dropout = nn.Dropout(input_dropout)
        spec = self.bert.spec
        self.rnn = KINDS[kind](
            spec.width, hidden_dim, bias=bias, batch_first=True, bidirectional=True
        )
        self.spec = TextSpec(
            width=hidden_dim * (1 if average_directions else 2),
            vocab_size=spec.vocab_size,
            context_length=spec.context_length,
            cuts_padding=cuts_padding and padding == 0,
        )

    @property
    def word_embedding(self) -> nn.Embedding:
        """The table of words."""
        return self.bert.word_embedding

    def load_weights(self) -> None:
        """Loads the pretrained weights of BERT, if it has some."""
        self.bert.load_weights()

    def forward(self, tokens: Tokens, reads: frozenset[str] = frozenset()) -> TextFeatures:
        """Encodes captions of up to ``spec.context_length`` tokens.

        Args:
            tokens: The captions.
            reads: Names of features.

        Raises:
            ValueError: If the captions are longer, or if it has no such features.
        """
        check_text_request(self, tokens, reads)
        width = tokens.ids.shape[1]
        lengths = (tokens.lengths + self.padding).clamp(max=width)
        # Nobody reads what BERT makes of the padding behind, which no word attends to.
        read = tokens.cut(width if torch.compiler.is_exporting() else int(lengths.max()))
        words = self.input_dropout(self.bert(read, frozenset({'tokens'})).tokens)
        states = F.pad(self.states(words, lengths), (0, 0, 0, width - words.shape[1]))
        _, behind = columns_behind(states, lengths)
        return TextFeatures(
            pooled_words(self.rnn, states, lengths, self.pooling),
            tokens=states if 'tokens' in reads else None,
            mask=~behind,
            end=tokens.end,
        )

    def states(self, words: Tensor, lengths: Tensor) -> Tensor:
        """States (T, L, W) of BERT's words (T, L, E), 0 behind the first ``lengths`` (T,)."""
        return recurrent_states(
            self.rnn, words, lengths, average_directions=self.average_directions
        )
