"""Head of every loss that compares the pairs of a batch."""

import torch
from torch import nn

from sen_toolbox.models.features import BackboneSpec, PairFeatures
from sen_toolbox.models.gather import gather, gather_wide
from sen_toolbox.registry import HEADS, LOSSES


@HEADS.register_module()
class MatchingHead(nn.Module):
    """Applies ``loss(image, text, pids)`` to the global embeddings of the batch of all ranks.

    Args:
        loss: Config of the loss.
        spec: Sizes of the backbone; unused, as every embedding width fits.
    """

    def __init__(self, *, loss: dict, spec: BackboneSpec) -> None:
        super().__init__()
        self.loss = LOSSES.build(loss)

    def forward(self, feats: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, computed in at least float32 whatever the autocast mode."""
        with torch.autocast(feats.image.device.type, enabled=False):
            image, text = gather_wide(feats.image), gather_wide(feats.text)
            return dict(loss=self.loss(image, text, gather(batch['pids'])))
