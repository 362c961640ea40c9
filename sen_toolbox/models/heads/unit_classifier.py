"""Classification of the identities by unit class weights."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.checks import checked_share
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.registry import HEADS

MODALITIES = ('image', 'text')


@HEADS.register_module()
class UnitClassifierHead(nn.Module):
    """One classifier for images and captions: unit class weights, smoothed labels.

    Args:
        num_classes: Number of training identities.
        smoothing: Share of the target that all classes divide among themselves, in 0..1.
        scale: Length to which embeddings are brought; None for those that keep their own.
        bias: Whether each class has a bias, which starts at 0.
        modalities: What it classifies, 'image' or 'text' or both; two heads of one each are two
            classifiers.
        spec: Sizes of the backbone.

    Raises:
        ValueError: If ``modalities`` are others, or none.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        smoothing: float = 0.1,
        scale: float | None = None,
        bias: bool = False,
        modalities: Sequence[str] = MODALITIES,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        if not modalities or set(modalities) - set(MODALITIES):
            raise ValueError(f'modalities are some of {list(MODALITIES)}, got {list(modalities)}')
        self.modalities = tuple(modalities)
        self.num_classes, self.scale = num_classes, scale
        self.smoothing = checked_share('smoothing', smoothing)
        self.weight = nn.Parameter(torch.empty(num_classes, spec.embed_dim))
        nn.init.xavier_uniform_(self.weight)
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, the sum over its modalities, and the accuracies, in 0..1."""
        labels = pair.of_texts(batch['labels'])
        embeddings = dict(image=pair.of_texts(pair.image.embedding), text=pair.text.embedding)
        total, accuracies = 0.0, {}
        for name in self.modalities:
            loss, accuracies[f'{name}_acc'] = self._classify(embeddings[name], labels)
            total = total + loss
        return dict(loss=total, **accuracies)

    def _classify(self, embedding: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.scale is not None:
            embedding = self.scale * F.normalize(embedding, dim=1)
        logits = F.linear(embedding, F.normalize(self.weight, dim=1), self.bias)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing), accuracy
