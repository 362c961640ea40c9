"""Recurrent networks over words: LSTM and GRU, in one direction or both."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from sen_toolbox.messages import one_line
from sen_toolbox.models.features import TextFeatures, TextSpec
from sen_toolbox.models.pretrained import load_pretrained
from sen_toolbox.models.requests import check_text_request
from sen_toolbox.models.text_encoders.recurrence import (
    KINDS,
    POOLINGS,
    pooled_words,
    recurrent_states,
    with_padding,
)
from sen_toolbox.registry import TEXT_ENCODERS
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokens import Tokenizer, Tokens

PADDED_MAX = 'padded_max'
WORD_INITS = {'normal': nn.init.normal_, 'xavier': nn.init.xavier_uniform_}
WANTED = 'a checkpoint of this toolbox with this encoder'


@TEXT_ENCODERS.register_module()
class RecurrentTextEncoder(nn.Module):
    """One recurrent layer over word embeddings; its states are the tokens, 0 behind a caption.

    Padding is never read. A caption without a word is read as one padding token.

    Args:
        tokenizer: The tokenizer, or its config: tells the number of ids and the longest caption.
        kind: 'lstm' or 'gru'.
        word_dim: Width of a word embedding.
        hidden_dim: Width of the layer in each direction.
        bidirectional: Whether a second direction reads the words from the last to the first.
        average_directions: Whether a state is the mean of both directions; else they stand side by
            side.
        bias: Whether the layer has biases.
        input_dropout: Share of the numbers of word embeddings that training drops.
        output_dropout: Share of the numbers of states that training drops.
        pooling: The embedding: 'max' or 'mean' over the states of a caption, or 'last', the state
            in which each direction ends. 'padded_max' also counts a state of 0 behind every caption
            but the longest of the batch, as releases do that pad their batches; in evaluation
            behind each.
        word_init: First word embeddings: 'normal' with deviation 1, or 'xavier', uniform.
        word_vectors: ``.npy`` or ``.npz`` file with one array (ids, ``word_dim``), which
            become the word embeddings and stay as they are. None for embeddings that are learnt.
        pretrained: Weights loaded before training: a checkpoint of this toolbox with this encoder.
            None for random weights.

    Raises:
        ValueError: If an option is none of its choices, or there is nothing to average.
    """

    provides = frozenset({'tokens'})
    weight_files = frozenset({'word_vectors'})

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | Mapping,
        kind: str = 'lstm',
        word_dim: int = 512,
        hidden_dim: int = 512,
        bidirectional: bool = True,
        average_directions: bool = False,
        bias: bool = True,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        pooling: str = 'max',
        word_init: str = 'normal',
        word_vectors: str | None = None,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        for name, value, choices in (
            ('kind', kind, KINDS),
            ('pooling', pooling, (*POOLINGS, PADDED_MAX)),
            ('word_init', word_init, WORD_INITS),
        ):
            if value not in choices:
                raise ValueError(f'{name} is one of {list(choices)}, got {value!r}')
        if average_directions and (not bidirectional or pooling == 'last'):
            raise ValueError(
                'average_directions is for the states of two directions at one word: set '
                "bidirectional, and pooling to 'max' or 'mean'"
            )
        tokenizer = as_tokenizer(tokenizer)
        self.pooling, self.average_directions = pooling, average_directions
        self.depends_on_batch = pooling == PADDED_MAX
        self.word_vectors, self.pretrained = word_vectors, pretrained
        self.word_embedding = nn.Embedding(tokenizer.vocab_size, word_dim)
        WORD_INITS[word_init](self.word_embedding.weight)
        self.word_embedding.weight.requires_grad = word_vectors is None
        self.input_dropout = nn.Dropout(input_dropout)
        self.rnn = KINDS[kind](
            word_dim, hidden_dim, bias=bias, batch_first=True, bidirectional=bidirectional
        )
        self.output_dropout = nn.Dropout(output_dropout)
        self.spec = TextSpec(
            width=hidden_dim * (2 if bidirectional and not average_directions else 1),
            vocab_size=tokenizer.vocab_size,
            context_length=tokenizer.context_length,
        )

    def load_weights(self) -> None:
        """Loads ``word_vectors``, or ``pretrained``, which holds such vectors, too.

        Raises:
            FileNotFoundError: If there is no such file; says which to get.
            ValueError: If keys or shapes do not match; names them.
        """
        load_words(self)

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
        states = self.states(self.word_embedding(tokens.ids), lengths)
        return TextFeatures(
            self.pool(states, lengths),
            tokens=states if 'tokens' in reads else None,
            mask=tokens.mask,
            end=tokens.end,
        )

    def states(self, words: Tensor, lengths: Tensor) -> Tensor:
        """States (T, L, W) of embedded words (T, L, E), 0 behind the first ``lengths`` (T,)."""
        states = recurrent_states(
            self.rnn, self.input_dropout(words), lengths, average_directions=self.average_directions
        )
        return self.output_dropout(states)

    def pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings (T, W) of states (T, L, W), which are 0 behind the captions."""
        if self.pooling != PADDED_MAX:
            return pooled_words(self.rnn, states, lengths, self.pooling)
        maximum = pooled_words(self.rnn, states, lengths, 'max')
        return with_padding(maximum, lengths) if self.training else maximum.clamp_min(0)


def load_words(encoder: nn.Module) -> None:
    """Loads an encoder's ``word_vectors``, or its ``pretrained``, which holds them, too."""
    load_pretrained(encoder, 'text', WANTED)
    if encoder.pretrained is None and encoder.word_vectors is not None:
        table = encoder.word_embedding
        vectors = read_word_vectors(encoder.word_vectors, tuple(table.weight.shape))
        table.load_state_dict({'weight': vectors})


def read_word_vectors(file: str, shape: tuple[int, int]) -> Tensor:
    """The one array of a ``.npy`` or ``.npz`` file, in float32.

    Args:
        file: Its path.
        shape: (ids, width) that it is to have.

    Raises:
        FileNotFoundError: If there is no such file; says which to get.
        ValueError: If it holds something else.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f'there are no word vectors at {path}: put an array {shape} (ids, word_dim) '
            'there, or set model.backbone.text.word_vectors to its path, or to None for embeddings '
            'that are learnt'
        )
    try:
        content = np.load(path, allow_pickle=False)
        names = content.files if isinstance(content, np.lib.npyio.NpzFile) else []
        if len(names) == 1:
            content = content[names[0]]
    except Exception as error:  # zipfile and NumPy raise many types for a damaged file
        raise ValueError(
            f'{path} is not a readable .npy or .npz file: {one_line(error)}'
        ) from error
    if not isinstance(content, np.ndarray):
        raise ValueError(f'{path} is to hold one array, it holds {one_line(names)}')
    if content.shape != shape:
        raise ValueError(
            f'{path} has word vectors of shape {content.shape}, expected {shape} (ids, word_dim)'
        )
    if content.dtype.kind != 'f' or not np.isfinite(content).all():
        raise ValueError(f'{path} has word vectors that are not finite numbers ({content.dtype})')
    print_log(f'{len(content)} word vectors from {path}', logger='current')
    return torch.from_numpy(content).float()
