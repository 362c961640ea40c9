"""Head of every loss that compares the pairs of a batch."""

import torch
from torch import nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.heads.pairs import gathered_pairs
from sen_toolbox.registry import HEADS, LOSSES


@HEADS.register_module()
class MatchingHead(nn.Module):
    """Applies ``loss(image_embedding, text_embedding, labels)`` to the pairs of all ranks.

    Args:
        loss: Config of the loss.
        spec: Sizes of the backbone; unused, as every embedding width fits.
    """

    def __init__(self, *, loss: dict, spec: PairSpec) -> None:
        super().__init__()
        self.loss = LOSSES.build(loss)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, computed in at least float32 whatever the autocast mode."""
        with torch.autocast(pair.text.embedding.device.type, enabled=False):
            return dict(loss=self.loss(*gathered_pairs(pair, batch)))
