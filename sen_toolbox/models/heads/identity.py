"""Classification of the training identities."""

import torch.nn.functional as F
from torch import nn

from sen_toolbox.models.features import BackboneSpec, PairFeatures
from sen_toolbox.registry import HEADS


@HEADS.register_module()
class IdentityHead(nn.Module):
    """One classifier shared by images and captions (instance loss of Dual-Path, arXiv:1711.05535).

    Args:
        num_classes: Number of training identities.
        spec: Sizes of the backbone.
    """

    def __init__(self, *, num_classes: int, spec: BackboneSpec) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.classifier = nn.Linear(spec.embed_dim, num_classes)
        # Standard deviation of the SEN and IRRA releases.
        nn.init.normal_(self.classifier.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, feats: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, the mean of both modalities, and the accuracies, in 0..1."""
        pids = batch['pids']
        image, text = self.classifier(feats.image), self.classifier(feats.text)
        return dict(
            loss=(F.cross_entropy(image, pids) + F.cross_entropy(text, pids)) / 2,
            image_acc=(image.argmax(dim=1) == pids).float().mean(),
            text_acc=(text.argmax(dim=1) == pids).float().mean(),
        )
