"""Token selection embedding of RDE: a second pair of embeddings, for training and retrieval."""

import torch
from torch import Tensor

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.registry import HEADS, NECKS

from .weighted_matching import WeightedMatchingHead


@HEADS.register_module()
class TokenSelectionHead(WeightedMatchingHead):
    """Applies the loss to embeddings of the most attended patches and words.

    RDE, arXiv:2308.09911. Patches are chosen by the attention of the class token in the last block,
    words by that of the token that stands for the caption. The first and the last token of a
    caption are not words, in CLIP's rows as in BERT's. Each modality has its own embedding layer.
    In retrieval the cosine of these embeddings is averaged with that of the global ones.

    Args:
        neck: Config of the embedding layer ``(tokens, score, count) -> (B, E)``, built once for
            the patches and once for the words.
        loss: Config of the loss.
        second_weight: See ``WeightedMatchingHead``.
        spec: Sizes of the backbone.
    """

    reads = frozenset({'image.tokens', 'image.attention', 'text.tokens', 'text.attention'})

    def __init__(
        self, *, neck: dict, loss: dict, second_weight: float = 0.0, spec: PairSpec
    ) -> None:
        super().__init__(loss=loss, second_weight=second_weight, spec=spec)
        sizes = dict(num_tokens=spec.image.num_patches, in_width=spec.image.width)
        self.image_neck = NECKS.build({**neck, **sizes, 'spec': spec})
        # All but start and end; not those of a caption, so that padding has no influence.
        sizes = dict(num_tokens=spec.text.context_length - 2, in_width=spec.text.width)
        self.text_neck = NECKS.build({**neck, **sizes, 'spec': spec})

    def embed_image(self, pair: PairFeatures) -> Tensor:
        """Embeddings (B, E) of the patches the class token attends to most."""
        patches = pair.image.tokens[:, 1:]  # type: ignore[index]  # there, since ``reads`` asks
        # Not len(patches), which would fix the number of images of an exported model.
        count = torch.full((patches.shape[0],), patches.shape[1], device=patches.device)
        return self.image_neck(patches, pair.image.attention, count)

    def embed_text(self, pair: PairFeatures) -> Tensor:
        """Embeddings (T, E) of the words that the token of the caption attends to most."""
        text, last = pair.text, pair.text.mask.sum(1) - 1
        position = torch.arange(text.tokens.shape[1], device=last.device)
        score = text.attention.masked_fill(text.mask.logical_not(), 0)
        score = score.masked_fill((position == 0) | (position == last[:, None]), -1)
        return self.text_neck(text.tokens, score, last - 1)

    def compared_image(self, pair: PairFeatures) -> Tensor:
        """The embeddings of patches, see ``embed_image``."""
        return self.embed_image(pair)

    def compared_text(self, pair: PairFeatures) -> Tensor:
        """The embeddings of words, see ``embed_text``."""
        return self.embed_text(pair)
