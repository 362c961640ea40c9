"""The instance loss with dropout, and the ranking loss on negatives that the sampler draws."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.dual_path.layers import start
from sen_toolbox.checks import checked_share
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import widened
from sen_toolbox.registry import HEADS, LOSSES

EPSILON = 1e-8  # added to squared lengths by the release


@HEADS.register_module()
class InstanceHead(nn.Module):
    """One classifier of the identities for images and captions, behind ReLU and dropout.

    Args:
        num_classes: Number of training identities.
        dropout: Share of an embedding's numbers that training drops.
        image_weight: Weight of the images' cross-entropy.
        text_weight: Weight of the captions'.
        spec: Sizes of the backbone.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        dropout: float = 0.8,
        image_weight: float = 1.0,
        text_weight: float = 1.0,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        self.num_classes, self.dropout = num_classes, checked_share('dropout', dropout)
        self.weights = image_weight, text_weight
        self.classifier = nn.Linear(spec.embed_dim, num_classes)
        start(self.classifier.weight, scale=0.1)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, the weighted sum of both means over pairs, and the accuracies."""
        labels = pair.of_texts(batch['labels'])
        image_term, image_acc = self.classify(pair.of_texts(pair.image.embedding), labels)
        text_term, text_acc = self.classify(pair.text.embedding, labels)
        loss = self.weights[0] * image_term + self.weights[1] * text_term
        return dict(loss=loss, image_acc=image_acc, text_acc=text_acc)

    def classify(self, embedding: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of embeddings (B, D), and the accuracy, in 0..1."""
        logits = self.classifier(F.dropout(F.relu(embedding), self.dropout, self.training))
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return F.cross_entropy(logits, labels), accuracy


@LOSSES.register_module()
class GivenNegativeLoss(nn.Module):
    r"""Hinge of each pair against one image and one caption of other identities.

    :math:`\max(0, m - I \cdot T + I \cdot T^-) + \max(0, m - I \cdot T + T \cdot I^-)`, mean over
    pairs. What is compared is as it comes: unit rows make the products cosines.

    Args:
        margin: :math:`m`.
    """

    def __init__(self, *, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(
        self, image: Tensor, text: Tensor, negative_image: Tensor, negative_text: Tensor
    ) -> Tensor:
        """Returns a scalar; all four are (P, D)."""
        matching = (image * text).sum(dim=1)
        against_text = (image * negative_text).sum(dim=1) - matching + self.margin
        against_image = (text * negative_image).sum(dim=1) - matching + self.margin
        return (against_text.clamp_min(0) + against_image.clamp_min(0)).mean()


@HEADS.register_module()
class GivenNegativeHead(nn.Module):
    """Compares every other pair of a batch with the pair behind it, which is its negative.

    ``ImageOnceSampler(negatives=True)`` gives batches in that order. Embeddings are compared behind
    a ReLU and as unit vectors, so that products are in 0..1.

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
            image = unit_behind_relu(pair.of_texts(pair.image.embedding))
            text = unit_behind_relu(pair.text.embedding)
            whole = len(text) // 2 * 2
            first, second = slice(0, whole, 2), slice(1, whole, 2)
            return dict(loss=self.loss(image[first], text[first], image[second], text[second]))


def unit_behind_relu(embedding: Tensor) -> Tensor:
    """Rows (B, D) behind a ReLU, divided by their length."""
    positive = F.relu(widened(embedding))
    return positive / (positive.square().sum(dim=1, keepdim=True) + EPSILON).sqrt()
