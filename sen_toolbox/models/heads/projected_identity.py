"""Cross-modal projection classification (CMPC), Zhang and Lu, ECCV 2018."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.registry import HEADS


@HEADS.register_module()
class CMPCHead(nn.Module):
    r"""Norm-softmax classification of each embedding projected onto its partner.

    :math:`\hat x_i = (x_i^\top \bar z_i)\,\bar z_i` is classified with unit class weights
    :math:`W` and no bias, and so is the text projected onto its image; the two cross-entropies are
    added.

    Args:
        num_classes: Number of training identities.
        spec: Sizes of the backbone.
    """

    def __init__(self, *, num_classes: int, spec: PairSpec) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.empty(num_classes, spec.embed_dim))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` and the accuracies, in 0..1."""
        labels, weight = pair.of_texts(batch['labels']), F.normalize(self.weight, dim=1)
        image, text = pair.of_texts(pair.image.embedding), pair.text.embedding
        image_logits = F.linear(project(image, text), weight)
        text_logits = F.linear(project(text, image), weight)
        return dict(
            loss=F.cross_entropy(image_logits, labels) + F.cross_entropy(text_logits, labels),
            image_acc=(image_logits.argmax(dim=1) == labels).float().mean(),
            text_acc=(text_logits.argmax(dim=1) == labels).float().mean(),
        )


def project(source: Tensor, target: Tensor) -> Tensor:
    """Vector projection of each row of ``source`` (B, D) onto that row of ``target``."""
    target = F.normalize(target, dim=1)
    return (source * target).sum(dim=1, keepdim=True) * target
