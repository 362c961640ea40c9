"""Classification of the training identities."""

import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.registry import HEADS


@HEADS.register_module()
class IdentityHead(nn.Module):
    """One classifier shared by images and captions (instance loss of Dual-Path, arXiv:1711.05535).

    Args:
        num_classes: Number of training identities.
        spec: Sizes of the backbone.
    """

    def __init__(self, *, num_classes: int, spec: PairSpec) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.classifier = nn.Linear(spec.embed_dim, num_classes)
        # Standard deviation of the SEN and IRRA releases.
        nn.init.normal_(self.classifier.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, the mean of both modalities, and the accuracies, in 0..1.

        All are means over pairs: an image with several captions counts once with each of them.
        """
        labels = pair.of_texts(batch['labels'])
        image_loss, image_acc = self._classify(pair.of_texts(pair.image.embedding), labels)
        text_loss, text_acc = self._classify(pair.text.embedding, labels)
        return dict(loss=(image_loss + text_loss) / 2, image_acc=image_acc, text_acc=text_acc)

    def _classify(self, embedding: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classifier(embedding)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return F.cross_entropy(logits, labels), accuracy
