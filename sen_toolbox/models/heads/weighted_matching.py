"""Matching of pairs that do not all count alike."""

import torch
from torch import Tensor, nn

from sen_toolbox.models.features import BackboneSpec, PairFeatures
from sen_toolbox.models.gather import gather, gather_wide
from sen_toolbox.registry import HEADS, LOSSES


@HEADS.register_module()
class WeightedMatchingHead(nn.Module):
    """Applies ``loss(image, text, pids, weights)`` to the global embeddings of all ranks.

    The weights are ``batch['pair_weights']`` (B,), which a hook may put there; without, None.

    Args:
        loss: Config of the loss; also has ``per_pair(image, text, pids) -> (B,)``.
        spec: Sizes of the backbone; unused, as every embedding width fits.
    """

    def __init__(self, *, loss: dict, spec: BackboneSpec) -> None:
        super().__init__()
        self.loss = LOSSES.build(loss)

    def forward(self, feats: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, computed in at least float32 whatever the autocast mode."""
        weights = gather(batch['pair_weights']) if 'pair_weights' in batch else None
        with torch.autocast(feats.image.device.type, enabled=False):
            return dict(loss=self.loss(*_gathered(feats, batch), weights))

    def pair_losses(self, feats: PairFeatures, batch: dict) -> Tensor:
        """Loss of each pair of the batch of all ranks, in rank order."""
        with torch.autocast(feats.image.device.type, enabled=False):
            return self.loss.per_pair(*_gathered(feats, batch))


def _gathered(feats: PairFeatures, batch: dict) -> tuple[Tensor, Tensor, Tensor]:
    return gather_wide(feats.image), gather_wide(feats.text), gather(batch['pids'])
