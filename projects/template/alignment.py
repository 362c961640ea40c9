"""Template of a head: distance of the two embeddings of a pair."""

import torch.nn.functional as F
from torch import nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.registry import HEADS


@HEADS.register_module()
class AlignmentHead(nn.Module):
    """Mean squared distance of paired unit embeddings (alignment, arXiv:2005.10242).

    Args:
        spec: Sizes of the backbone, given to every head.
    """

    # Features that forward reads; these two are what a head without `reads` gets.
    reads = frozenset({'image.embedding', 'text.embedding'})

    def __init__(self, *, spec: PairSpec) -> None:
        super().__init__()

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, to be weighted and summed, and ``cosine``, which is only logged."""
        image = pair.of_texts(pair.image.embedding)
        cosine = F.cosine_similarity(image, pair.text.embedding)
        return dict(loss=(2 - 2 * cosine).mean(), cosine=cosine.mean())
