"""Matching of pairs that do not all count alike."""

import torch
from torch import Tensor, nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import gather
from sen_toolbox.models.heads.pairs import gathered_pairs
from sen_toolbox.registry import HEADS, LOSSES


@HEADS.register_module()
class WeightedMatchingHead(nn.Module):
    """Applies ``loss(image_embedding, text_embedding, labels, weights)`` to the pairs of all ranks.

    The weights are ``batch['pair_weights']`` (B,), which a hook may put there; without, None.

    Args:
        loss: Config of the loss; also has ``per_pair(image_embedding, text_embedding, labels)``,
            which returns (P,).
        spec: Sizes of the backbone; unused, as every embedding width fits.
    """

    def __init__(self, *, loss: dict, spec: PairSpec) -> None:
        super().__init__()
        self.loss = LOSSES.build(loss)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, computed in at least float32 whatever the autocast mode."""
        weights = None
        if 'pair_weights' in batch:
            weights = gather(pair.of_texts(batch['pair_weights']))
        with torch.autocast(pair.text.embedding.device.type, enabled=False):
            return dict(loss=self.loss(*gathered_pairs(pair, batch), weights))

    def pair_losses(self, pair: PairFeatures, batch: dict) -> Tensor:
        """Loss of each pair of the batch of all ranks, in rank order."""
        with torch.autocast(pair.text.embedding.device.type, enabled=False):
            return self.loss.per_pair(*gathered_pairs(pair, batch))
