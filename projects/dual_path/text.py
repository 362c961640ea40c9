"""The text path: a residual network of convolutions along the words."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.dual_path.layers import convolution, linear
from projects.dual_path.norm import DeviationBatchNorm
from sen_toolbox.models.features import TextFeatures, TextSpec
from sen_toolbox.models.requests import check_text_request
from sen_toolbox.models.text_encoders.lstm import load_words
from sen_toolbox.registry import TEXT_ENCODERS
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokens import Tokenizer, Tokens

# Inner and outer channels and stride of each unit.
UNITS = (
    *((128, 256, 1), (64, 256, 1), (64, 256, 1)),
    *((512, 512, 2), *[(128, 512, 1)] * 3),
    *((1024, 1024, 2), *[(256, 1024, 1)] * 5),
    (2048, 2048, 1),
)


@TEXT_ENCODERS.register_module()
class TextCNN(nn.Module):
    """Word embeddings, residual units, the maximum over places, linear, norm.

    A row is ``context_length`` places wide; places without a word are zeros, and nothing is masked.
    So it matters where a caption begins: training takes rows as they come, also shifted ones. In
    evaluation the embedding is the mean over all places at which the caption can begin.

    Args:
        tokenizer: The tokenizer, or its config: tells the number of ids and of places.
        word_dim: Width of a word embedding.
        units: Inner channels, outer channels and stride of each residual unit.
        embed_dim: Width of the embedding.
        word_vectors: ``.npy`` or ``.npz`` file with one array (ids, ``word_dim``), at which the
            word embeddings start. None for random ones.
        pretrained: Weights loaded before training: a checkpoint of this toolbox with this encoder.
            None for random weights.
    """

    provides: frozenset[str] = frozenset()
    weight_files = frozenset({'word_vectors'})

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | Mapping,
        word_dim: int = 300,
        units: Sequence[tuple[int, int, int]] = UNITS,
        embed_dim: int = 2048,
        word_vectors: str | None = None,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        tokenizer = as_tokenizer(tokenizer)
        self.word_vectors, self.pretrained = word_vectors, pretrained
        self.word_embedding = nn.Embedding(tokenizer.vocab_size, word_dim)
        # As a layer over all words at once: each word is one of its inputs.
        bound = (3 / tokenizer.vocab_size) ** 0.5
        nn.init.uniform_(self.word_embedding.weight, -bound, bound)
        self.word_bias = nn.Parameter(torch.zeros(word_dim))
        self.word_norm = DeviationBatchNorm(word_dim)
        self.units = nn.Sequential()
        channels = word_dim
        for inner, outer, stride in units:
            self.units.append(ResidualUnit(channels, inner, outer, stride))
            channels = outer
        self.output = linear(channels, embed_dim)
        self.output_norm = DeviationBatchNorm(embed_dim)
        self.spec = TextSpec(
            width=embed_dim,
            vocab_size=tokenizer.vocab_size,
            context_length=tokenizer.context_length,
            cuts_padding=False,
        )

    def load_weights(self) -> None:
        """Loads ``word_vectors``, or ``pretrained``, which holds words, too.

        Raises:
            FileNotFoundError: If there is no such file; says which to get.
            ValueError: If keys or shapes do not match; names them.
        """
        load_words(self)

    def forward(self, tokens: Tokens, reads: frozenset[str] = frozenset()) -> TextFeatures:
        """Encodes captions in rows of any number of places.

        Args:
            tokens: The captions; in evaluation they begin at the first place.
            reads: Names of features; there are none beside the embedding.

        Raises:
            ValueError: If the captions are longer, or if it has no such features.
        """
        check_text_request(self, tokens, reads)
        if self.training:
            embedding = self.embed(tokens.ids, tokens.mask)
        else:
            embedding = self._embed_everywhere(tokens)
        return TextFeatures(embedding, mask=tokens.mask, end=tokens.end)

    def embed(self, ids: Tensor, real: Tensor) -> Tensor:
        """Embeddings (T, D), before a ReLU, of rows (T, L) as they stand; ``real`` marks words."""
        places = self.units(self.embed_words(ids, real))
        return self.output_norm(self.output(places.max(dim=2).values))

    def embed_words(self, ids: Tensor, real: Tensor) -> Tensor:
        """What the units read, (T, C, L)."""
        words = self.word_embedding(ids) * real[:, :, None] + self.word_bias
        return self.word_norm(words.transpose(1, 2))

    def _embed_everywhere(self, tokens: Tokens) -> Tensor:
        """Mean over the places at which each caption can begin."""
        width = tokens.ids.shape[1]
        places = torch.arange(width, device=tokens.ids.device)
        # Place that comes to stand at each place, by the place of the first word, (L, L).
        source = places[None, :] - places[:, None]
        there = source.clamp(min=0)
        real = (tokens.mask[:, there] & (source >= 0)).flatten(0, 1)
        embedding = self.embed(tokens.ids[:, there].flatten(0, 1), real)
        fits = places[None, :] + tokens.lengths[:, None] <= width
        shares = fits / fits.sum(dim=1, keepdim=True)
        return (embedding.unflatten(0, fits.shape) * shares[:, :, None].to(embedding)).sum(dim=1)


class ResidualUnit(nn.Module):
    """1, 2 and 1 places wide convolutions with norms, added to what they read.

    Args:
        before: Channels that it reads.
        inner: Channels within.
        outer: Channels that it gives.
        stride: Step of the middle convolution, which sees a place and the one to its left.
    """

    def __init__(self, before: int, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.reduce = convolution(before, inner)
        self.reduce_norm = DeviationBatchNorm(inner)
        self.middle = convolution(inner, inner, 2, stride)
        self.middle_norm = DeviationBatchNorm(inner)
        self.widen = convolution(inner, outer)
        self.widen_norm = DeviationBatchNorm(outer)
        self.shortcut: nn.Module = nn.Identity()
        self.shortcut_norm: nn.Module = nn.Identity()
        if stride != 1 or before != outer:
            self.shortcut = convolution(before, outer, 1, stride)
            self.shortcut_norm = DeviationBatchNorm(outer)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (T, ``before``, L) to (T, ``outer``, L / ``stride``), rounded up."""
        inner = F.relu(self.reduce_norm(self.reduce(x)))
        inner = F.relu(self.middle_norm(self.middle(F.pad(inner, (1, 0)))))
        return F.relu(self.widen_norm(self.widen(inner)) + self.shortcut_norm(self.shortcut(x)))
