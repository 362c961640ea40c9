"""Identities and ranking of features on several levels, such as a whole and its parts."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import gather_all, widened
from sen_toolbox.models.heads.pairs import second_tokens
from sen_toolbox.models.parts import PartLinear
from sen_toolbox.registry import HEADS, LOSSES, NECKS

# What the ranking of a level draws for each pair.
DRAWS = 4


@HEADS.register_module()
class PartRankingHead(nn.Module):
    """Classifies and ranks each level of a neck.

    The loss of a level is the cross-entropy of its parts, each with a classifier that images and
    captions share, and the ranking of pairs and second captions, which the batch has in
    ``second_tokens`` (see ``SecondCaption``). Retrieval adds up the cosines of the levels.

    The neck has ``widths``, number K of parts and their width by level, ``reads``, and gives with
    ``embed_image(pair)`` and ``embed_words(text)`` the features (B, K, width) by level.

    Args:
        num_classes: Number of training identities.
        neck: Config of the neck.
        ranking: Config of the loss ``(images, texts, second texts, labels, draws)``.
        level_weights: Weight of each level in the loss, by the neck's names.
        spec: Sizes of the backbone.

    Raises:
        KeyError: If ``level_weights`` names other levels than the neck has.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        neck: dict,
        ranking: dict,
        level_weights: Mapping[str, float],
        spec: PairSpec,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.neck = NECKS.build({**neck, 'spec': spec})
        self.ranking = LOSSES.build(ranking)
        if set(level_weights) != set(self.neck.widths):
            raise KeyError(
                f'level_weights must name the levels {sorted(self.neck.widths)}, '
                f'got {sorted(level_weights)}'
            )
        # In the order of the neck, since a description of the model sorts names.
        self.level_weights = {name: level_weights[name] for name in self.neck.widths}
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
        """Returns ``loss`` and each term of it without its weight.

        Raises:
            KeyError: If the batch has no second captions.
        """
        labels = pair.of_texts(batch['labels'])
        # In this order the statistics of batch norm see them.
        image = self.neck.embed_image(pair)
        text = self.neck.embed_words(pair.text)
        second_text = backbone.encode_text(second_tokens(batch), self.reads)
        second = self.neck.embed_words(second_text)
        values: dict[str, Tensor] = {}
        total: Tensor | float = 0.0
        for name, weight in self.level_weights.items():
            images = pair.of_texts(image[name])
            identity, ranking = self.level_terms(name, images, text[name], second[name], labels)
            values |= {f'id_{name}': identity, f'cr_{name}': ranking}
            total += weight * (identity + ranking)
        further = self.further_terms(image, batch['labels'])
        return dict(loss=total + sum(further.values()), **values, **further)

    def level_terms(
        self, name: str, images: Tensor, texts: Tensor, seconds: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The identities and the ranking of a level.

        Args:
            name: The level.
            images: Parts (P, K, width) of the images of P pairs.
            texts: Those of their captions.
            seconds: Those of second captions.
            labels: Identity labels (P,).
        """
        identity = self.classify(name, (images, texts), labels)
        return identity, self.rank(name, images, texts, seconds, labels)

    def rank(
        self, name: str, images: Tensor, texts: Tensor, seconds: Tensor, labels: Tensor
    ) -> Tensor:
        """The ranking of parts, among the pairs of all processes.

        Args:
            name: By which ``draw_choices`` is asked.
            images: Parts (P, K, width) of the images of P pairs.
            texts: Those of their captions.
            seconds: Those of second captions.
            labels: Identity labels (P,).
        """
        compared = [widened(x.flatten(1)) for x in (images, texts, seconds)]
        draws = self.draw_choices(name, len(labels), labels.device)
        with torch.autocast(labels.device.type, enabled=False):
            return self.ranking(*gather_all(*compared, labels, draws))

    def further_terms(self, image: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Terms by name that a method adds to the loss; here none.

        Args:
            image: What the neck gives of B images, which may be more than the levels.
            labels: Identity labels (B,).
        """
        return {}

    def draw_choices(self, name: str, count: int, device: torch.device) -> Tensor:
        """Draws which negatives a ranking takes.

        Args:
            name: The level, or which of several rankings of it.
            count: Number P of pairs.
            device: Of the result.

        Returns:
            (P, 4) in 0..1.
        """
        return torch.rand(count, DRAWS, device=device)

    def classify(self, name: str, sides: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The cross-entropy of each of several parts (P, K, width) of a level, added up.

        That of one is the mean over its parts. All at once: a gradient of all classes for each
        would take longer than the rest.

        Args:
            name: The level.
            sides: The parts, of images, captions and what else shares the classifiers.
            labels: Identity labels (P,).
        """
        logits = self.classifiers[name](torch.cat(list(sides)))
        labels = labels.repeat(len(sides)).repeat_interleave(logits.shape[1])
        return len(sides) * F.cross_entropy(logits.flatten(0, 1), labels)

    def embed_image(self, pair: PairFeatures) -> Tensor:
        """Unit vectors of all levels side by side; their inner product is the sum of cosines."""
        return self._side_by_side(self.neck.embed_image(pair))

    def embed_text(self, pair: PairFeatures) -> Tensor:
        """The same of captions."""
        return self._side_by_side(self.neck.embed_words(pair.text))

    def _side_by_side(self, levels: dict[str, Tensor]) -> Tensor:
        parts = [F.normalize(levels[name].flatten(1).float(), dim=1) for name in self.level_weights]
        return torch.cat(parts, dim=1)
