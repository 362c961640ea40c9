"""Names the colours that are hidden in captions, from the pictures."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sen_toolbox.models.batch_norm import statistics_kept
from sen_toolbox.models.features import ImageFeatures, PairFeatures, PairSpec, TextFeatures
from sen_toolbox.models.heads import MaskedWordHead
from sen_toolbox.models.heads.pairs import second_tokens
from sen_toolbox.registry import HEADS, NECKS
from sen_toolbox.text.colours import COLOUR_WORDS
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokens import Tokenizer, Tokens


@HEADS.register_module()
class HiddenColourHead(MaskedWordHead):
    """Predicts the colour words that ``HideColours`` masked, from the other words and the image.

    LapsCore, ICCV 2021, text completion. The caption with hidden colours is encoded beside the
    whole one, which is matched. Retrieval does not use it.

    Args:
        neck: Config of the neck ``(words, regions) -> words``, with a ``depth``.
        stage: The stage of the image encoder whose positions are the regions.
        tokenizer: The tokenizer, or its config, if ``COLOUR_WORDS`` alone may be the answer, as
            they then must be; None for any word of the vocabulary.
        spec: Sizes of the backbone.
    """

    def __init__(
        self,
        *,
        neck: dict,
        stage: str = 'layer4',
        tokenizer: Tokenizer | Mapping | None = None,
        spec: PairSpec,
    ) -> None:
        super().__init__(neck={**neck, 'stage': stage}, spec=spec)
        self.stage, self.reads = stage, frozenset({f'image.stages.{stage}'})
        if tokenizer is not None:
            tokenizer = as_tokenizer(tokenizer)
            colours = {token for word in COLOUR_WORDS for token in tokenizer.encode(word)}
            colours &= set(tokenizer.words)  # none of the special ones
            self.classifier.add_module('colours', _OnlyThese(colours, spec.text.vocab_size))

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` and ``acc``, in 0..1, of the hidden colours of all ranks.

        Raises:
            KeyError: If the batch has no captions with hidden colours, or no labels.
        """
        with statistics_kept(backbone):
            words = backbone.encode_text(second_tokens(batch), frozenset({'text.tokens'}))
        regions = pair.image.stages[self.stage].flatten(2).transpose(1, 2)
        hidden = PairFeatures(
            ImageFeatures(pair.image.embedding, tokens=regions),
            TextFeatures(words.embedding, tokens=words.tokens),
            pair.image_of,
        )
        return super().forward(hidden, batch, backbone)

    def word_attention(self, images: Tensor, tokens: Tokens, backbone: nn.Module) -> None:
        """None: positions of a map are no patches that a board knows."""


@NECKS.register_module()
class BilinearAttention(nn.Module):
    r"""Bilinear attention of words to regions, with residual connections over the glimpses.

    Bilinear attention networks (BAN), arXiv:1805.07932, equations 7 to 10, of low rank: in each
    glimpse :math:`A_{ij} = \mathrm{softmax}_j(p^\top (\sigma(U x_i) \circ \sigma(V y_j)))` and
    :math:`x_i \leftarrow x_i + P(\sum_j A_{ij}\, \sigma(U' x_i) \circ \sigma(V' y_j))`. There the
    sum is over words, too, and the softmax over all pairs: one answer for a question. Here every
    word :math:`x_i` has an answer of its own.

    Args:
        stage: The stage of the image encoder whose positions are the regions.
        width: Rank of the bilinear forms.
        glimpses: How often the words look.
        spec: Sizes of the backbone.
    """

    def __init__(self, *, stage: str, width: int = 512, glimpses: int = 2, spec: PairSpec) -> None:
        super().__init__()
        words, regions = spec.text.width, spec.image.stages[stage][0]
        # The head's first weights follow it.
        self.depth = glimpses
        self.glimpses = nn.ModuleList(_Glimpse(words, regions, width) for _ in range(glimpses))

    def forward(self, text_tokens: Tensor, image_tokens: Tensor) -> Tensor:
        """Words (T, L, W) that have seen the image.

        Args:
            text_tokens: Words (T, L, W).
            image_tokens: Regions (T, N, C).
        """
        for glimpse in self.glimpses:
            text_tokens = text_tokens + glimpse(text_tokens, image_tokens)
        return text_tokens


class _Glimpse(nn.Module):
    def __init__(self, words: int, regions: int, width: int) -> None:
        super().__init__()
        self.words, self.joint_words = nn.Linear(words, width), nn.Linear(words, width)
        self.regions, self.joint_regions = nn.Linear(regions, width), nn.Linear(regions, width)
        self.weight = nn.Parameter(torch.randn(width) / width**0.5)
        self.joined = nn.Linear(width, words)

    def forward(self, words: Tensor, regions: Tensor) -> Tensor:
        scores = (self.words(words).relu() * self.weight) @ self.regions(regions).relu().mT
        seen = scores.softmax(dim=2) @ self.joint_regions(regions).relu()
        return self.joined(self.joint_words(words).relu() * seen)


class _OnlyThese(nn.Module):
    """Leaves of the scores of a vocabulary those of some ids."""

    def __init__(self, ids: set[int], vocab_size: int) -> None:
        super().__init__()
        others = torch.ones(vocab_size, dtype=torch.bool)
        others[sorted(ids)] = False
        self.register_buffer('others', others, persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        return scores.masked_fill(self.others, -torch.inf)
