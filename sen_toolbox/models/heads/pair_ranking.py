"""Identities and ranking, by pairs alone, of features on several levels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import gather_all, widened
from sen_toolbox.models.parts import PartLinear
from sen_toolbox.registry import HEADS, LOSSES, NECKS

# What a ranking draws for each pair.
DRAWS = 2


@HEADS.register_module()
class PairRankingHead(nn.Module):
    """Classifies and ranks each level of a neck, as ``PartRankingHead`` without second captions.

    The neck has ``widths``, number K of parts and their width by level, ``reads``, and gives with
    ``embed_image(pair)`` and ``embed_text(pair)`` the features (B, K, width) by level. Retrieval
    adds up the cosines of the levels, the parts of each side by side.

    Args:
        num_classes: Number of training identities; each part has a classifier, which images and
            captions share.
        neck: Config of the neck.
        ranking: Config of the loss ``(images, texts, labels, draws)``.
        spec: Sizes of the backbone.
    """

    def __init__(self, *, num_classes: int, neck: dict, ranking: dict, spec: PairSpec) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.neck = NECKS.build({**neck, 'spec': spec})
        self.ranking = LOSSES.build(ranking)
        self.classifiers = nn.ModuleDict(
            {
                name: PartLinear(parts, width, num_classes, bias=True)
                for name, (parts, width) in self.neck.widths.items()
            }
        )
        for classifier in self.classifiers.values():
            nn.init.normal_(classifier.weight, std=0.001)
        self.reads = self.neck.reads

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` and each term of it."""
        labels = pair.of_texts(batch['labels'])
        image, text = self.neck.embed_image(pair), self.neck.embed_text(pair)
        values = {}
        for name in self.neck.widths:
            images, texts = pair.of_texts(image[name]), text[name]
            values[f'id_{name}'] = self.identify(name, images, texts, labels)
            values[f'rank_{name}'] = self.rank(name, images, texts, labels)
        return dict(loss=sum(values.values()), **values)

    def identify(self, level: str, images: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of images plus that of captions, means over the parts.

        Args:
            level: The level.
            images: Parts (P, K, width) of the images of P pairs.
            texts: Those of their captions.
            labels: Identity labels (P,).
        """
        logits = torch.stack([self.classifiers[level](parts) for parts in (images, texts)])
        wanted = labels[None, :, None].expand(logits.shape[:3])
        return 2 * F.cross_entropy(logits.flatten(0, 2), wanted.flatten())

    def rank(self, name: str, first: Tensor, second: Tensor, labels: Tensor) -> Tensor:
        """The ranking of parts (P, K, width) of two sides, among the pairs of all processes.

        Args:
            name: By which ``draw_choices`` is asked.
            first: One side.
            second: The other.
            labels: Identity labels (P,).
        """
        compared = [widened(x.flatten(1)) for x in (first, second)]
        draws = self.draw_choices(name, len(labels), labels.device)
        with torch.autocast(labels.device.type, enabled=False):
            return self.ranking(*gather_all(*compared, labels, draws))

    def draw_choices(self, name: str, count: int, device: torch.device) -> Tensor:
        """Draws which negatives a ranking takes, (count, 2) in 0..1.

        Args:
            name: Which ranking.
            count: Number of pairs.
            device: Of the result.
        """
        return torch.rand(count, DRAWS, device=device)

    def embed_image(self, pair: PairFeatures) -> Tensor:
        """Unit vectors of all levels side by side; their inner product is the sum of cosines."""
        return _side_by_side(self.neck.embed_image(pair))

    def embed_text(self, pair: PairFeatures) -> Tensor:
        """The same of captions."""
        return _side_by_side(self.neck.embed_text(pair))


def _side_by_side(levels: dict[str, Tensor]) -> Tensor:
    parts = [F.normalize(x.flatten(1).float(), dim=1) for x in levels.values()]
    return torch.cat(parts, dim=1)
