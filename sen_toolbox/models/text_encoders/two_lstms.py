"""Two LSTMs side by side, and the maximum over the words."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.features import TextFeatures, TextSpec
from sen_toolbox.models.pretrained import load_pretrained
from sen_toolbox.models.requests import check_text_request
from sen_toolbox.models.text_encoders.recurrence import (
    columns_behind,
    columns_read,
    in_order,
    maximum_of_words,
    states_of,
    turned_columns,
    with_padding,
)
from sen_toolbox.registry import TEXT_ENCODERS
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokens import Tokenizer, Tokens

WORD_INITS = {'normal': nn.init.normal_, 'xavier': nn.init.xavier_uniform_}
WANTED = 'a checkpoint of this toolbox with this encoder'


@TEXT_ENCODERS.register_module()
class TwoLSTMs(nn.Module):
    """Two LSTMs over word embeddings; their states side by side are the tokens, 0 behind a caption.

    The embedding is the maximum over the words; ``extra.pooled`` is the same, and stays what it is
    where a backbone projects embeddings. In training the releases pad a batch to its longest
    caption with states of 0 and take the maximum over those, too, which bounds the embedding of
    every shorter caption by 0 from below; so does this, with the longest caption of all processes.
    In evaluation there is no padding.

    Args:
        tokenizer: The tokenizer, or its config: tells the number of ids and the longest caption.
        word_dim: Width of a word embedding.
        hidden_dim: Width of each LSTM.
        both_forwards: Whether the second reads from the first word to the last, too, and not from
            the last to the first.
        bias: Whether the LSTMs have biases; those of the forget gates are 1 at the start.
        learns_start: Whether the first state and cell of each LSTM are learnt, or 0.
        dropout: Share of the numbers that training drops of the words, for each LSTM anew, and of
            the states.
        word_init: First word embeddings: 'normal' with deviation 1, or 'xavier', uniform.
        padding_learns: Whether the embedding of the padding's id is learnt, which is that of a word
            where the tokenizer gives it to one; else it stays 0.
        pretrained: Weights loaded before training: a checkpoint of this toolbox with this encoder.
            None for random weights.

    Raises:
        ValueError: If ``word_init`` is none of its choices.
    """

    provides = frozenset({'tokens', 'extra.pooled'})
    depends_on_batch = True

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | Mapping,
        word_dim: int = 512,
        hidden_dim: int = 512,
        both_forwards: bool = False,
        bias: bool = True,
        learns_start: bool = True,
        dropout: float = 0.0,
        word_init: str = 'xavier',
        padding_learns: bool = True,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        if word_init not in WORD_INITS:
            raise ValueError(f'word_init is one of {list(WORD_INITS)}, got {word_init!r}')
        tokenizer = as_tokenizer(tokenizer)
        self.both_forwards, self.dropout, self.pretrained = both_forwards, dropout, pretrained
        padding = None if padding_learns else tokenizer.special.pad
        self.word_embedding = nn.Embedding(tokenizer.vocab_size, word_dim, padding_idx=padding)
        WORD_INITS[word_init](self.word_embedding.weight)
        if padding is not None:
            nn.init.zeros_(self.word_embedding.weight[padding])
        self.first = _lstm(word_dim, hidden_dim, bias)
        self.second = _lstm(word_dim, hidden_dim, bias)
        # State and cell of each LSTM.
        self.register_parameter('starts', None)
        if learns_start:
            self.starts = nn.Parameter(torch.zeros(2, 2, hidden_dim))
        self.spec = TextSpec(
            width=2 * hidden_dim,
            vocab_size=tokenizer.vocab_size,
            context_length=tokenizer.context_length,
        )

    def load_weights(self) -> None:
        """Loads ``pretrained``.

        Raises:
            FileNotFoundError: If there is no such file; says which to get.
            ValueError: If keys or shapes do not match; names them.
        """
        load_pretrained(self, 'text', WANTED)

    def forward(self, tokens: Tokens, reads: frozenset[str] = frozenset()) -> TextFeatures:
        """Encodes captions of up to ``spec.context_length`` tokens.

        Args:
            tokens: The captions.
            reads: Names of features.

        Raises:
            ValueError: If the captions are longer, or if it has no such features.
        """
        check_text_request(self, tokens, reads)
        lengths = tokens.lengths.clamp(min=1)
        ids = tokens.ids[:, : columns_read(lengths, tokens.ids.shape[1])]
        columns, behind = columns_behind(ids, lengths)
        words = self.word_embedding(ids)
        turned = turned_columns(columns, behind, lengths)
        first = self._read(self.first, 0, words)
        if self.both_forwards:
            second = self._read(self.second, 1, words)
        else:
            second = self._read(self.second, 1, in_order(words, turned))
            second = in_order(second, turned)
        states = torch.cat([first, second], dim=2)
        pooled = self._longest_aware_maximum(states, behind, lengths)
        return TextFeatures(
            pooled,
            tokens=self._of_all_columns(states, behind, tokens) if 'tokens' in reads else None,
            mask=tokens.mask,
            end=tokens.end,
            extra=dict(pooled=pooled) if 'extra.pooled' in reads else {},
        )

    def _read(self, lstm: nn.LSTM, number: int, words: Tensor) -> Tensor:
        """States (T, L, H) of one LSTM; those behind a caption mean nothing."""
        start = None
        if self.starts is not None:
            rows = self.starts[number][:, None, None].expand(-1, 1, words.shape[0], -1)
            start = rows[0].contiguous(), rows[1].contiguous()
        words = F.dropout(words, self.dropout, self.training)
        if torch.compiler.is_exporting():
            states = states_of(lstm, words, start=start)
        else:
            states, _ = lstm(words, start)
        return F.dropout(states, self.dropout, self.training)

    @staticmethod
    def _of_all_columns(states: Tensor, behind: Tensor, tokens: Tokens) -> Tensor:
        """States (T, L, 2 H), 0 ``behind`` a caption and in the columns that were not read."""
        unread = tokens.ids.shape[1] - states.shape[1]
        return F.pad(states.masked_fill(behind[:, :, None], 0), (0, 0, 0, unread))

    def _longest_aware_maximum(self, states: Tensor, behind: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings (T, 2 H): the maximum over the words and, in training, over padding."""
        maximum = maximum_of_words(states, behind)
        return with_padding(maximum, lengths) if self.training else maximum


def _lstm(word_dim: int, hidden_dim: int, bias: bool) -> nn.LSTM:
    lstm = nn.LSTM(word_dim, hidden_dim, bias=bias, batch_first=True)
    if bias:
        for values, forget in ((lstm.bias_ih_l0, 1.0), (lstm.bias_hh_l0, 0.0)):
            nn.init.zeros_(values)
            # Gates stand in the order input, forget, candidate, output.
            nn.init.constant_(values[hidden_dim : 2 * hidden_dim], forget)
    return lstm
