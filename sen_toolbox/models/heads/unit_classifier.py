"""Classification of the identities by unit class weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.checks import checked_share
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.registry import HEADS


@HEADS.register_module()
class UnitClassifierHead(nn.Module):
    """One classifier for images and captions: unit class weights, no bias, smoothed labels.

    Args:
        num_classes: Number of training identities.
        smoothing: Share of the target that all classes divide among themselves, in 0..1.
        scale: Length to which embeddings are brought; None for those that keep their own.
        spec: Sizes of the backbone.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        smoothing: float = 0.1,
        scale: float | None = None,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        self.num_classes, self.scale = num_classes, scale
        self.smoothing = checked_share('smoothing', smoothing)
        self.weight = nn.Parameter(torch.empty(num_classes, spec.embed_dim))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, the sum of both modalities, and the accuracies, in 0..1."""
        labels = pair.of_texts(batch['labels'])
        image_loss, image_acc = self._classify(pair.of_texts(pair.image.embedding), labels)
        text_loss, text_acc = self._classify(pair.text.embedding, labels)
        return dict(loss=image_loss + text_loss, image_acc=image_acc, text_acc=text_acc)

    def _classify(self, embedding: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.scale is not None:
            embedding = self.scale * F.normalize(embedding, dim=1)
        logits = F.linear(embedding, F.normalize(self.weight, dim=1))
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing), accuracy
