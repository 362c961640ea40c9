"""Matching of pairs that do not all count alike."""

import torch
from torch import Tensor, nn

from sen_toolbox.models.features import (
    EMBEDDINGS,
    ImageFeatures,
    PairFeatures,
    PairSpec,
    TextFeatures,
)
from sen_toolbox.models.gather import gather
from sen_toolbox.models.heads.pairs import gathered_pairs, second_tokens
from sen_toolbox.registry import HEADS, LOSSES


@HEADS.register_module()
class WeightedMatchingHead(nn.Module):
    """Applies ``loss(image_embedding, text_embedding, labels, weights)`` to the pairs of all ranks.

    The weights are ``batch['pair_weights']`` (B,), which a hook may put there; without, None.

    Args:
        loss: Config of the loss; also has ``per_pair(image_embedding, text_embedding, labels)``,
            which returns (P,).
        second_weight: Weight of the same loss of the images and the batch's ``second_tokens``,
            which is added (ICL); 0 reads none.
        spec: Sizes of the backbone; unused, as every embedding width fits.
    """

    reads: frozenset[str] = EMBEDDINGS

    def __init__(self, *, loss: dict, second_weight: float = 0.0, spec: PairSpec) -> None:
        super().__init__()
        self.loss = LOSSES.build(loss)
        self.second_weight = second_weight

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, computed in at least float32 whatever the autocast mode."""
        image = self.compared_image(pair)
        loss = self._weighted_loss(image, pair, batch)
        if self.second_weight > 0:
            text = backbone.encode_text(second_tokens(batch), self.reads)
            second = PairFeatures(pair.image, text, pair.image_of)
            loss = loss + self.second_weight * self._weighted_loss(image, second, batch)
        return dict(loss=loss)

    def pair_losses(self, pair: PairFeatures, batch: dict) -> Tensor:
        """Loss of each pair of the batch of all ranks, in rank order."""
        compared = _compared(self.compared_image(pair), self.compared_text(pair), pair)
        with torch.autocast(pair.text.embedding.device.type, enabled=False):
            return self.loss.per_pair(*gathered_pairs(compared, batch))

    def compared_image(self, pair: PairFeatures) -> Tensor:
        """The embeddings (B, E) of the images that the loss compares."""
        return pair.image.embedding

    def compared_text(self, pair: PairFeatures) -> Tensor:
        """The embeddings (T, E) of the captions that the loss compares."""
        return pair.text.embedding

    def _weighted_loss(self, image: Tensor, pair: PairFeatures, batch: dict) -> Tensor:
        weights = None
        if 'pair_weights' in batch:
            weights = gather(pair.of_texts(batch['pair_weights']))
        compared = _compared(image, self.compared_text(pair), pair)
        with torch.autocast(pair.text.embedding.device.type, enabled=False):
            return self.loss(*gathered_pairs(compared, batch), weights)


def _compared(image: Tensor, text: Tensor, pair: PairFeatures) -> PairFeatures:
    return PairFeatures(ImageFeatures(image), TextFeatures(text), pair.image_of)
