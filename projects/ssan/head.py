"""Identities and ranking of three levels of features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.ssan.neck import LEVELS
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import gather, gather_wide
from sen_toolbox.models.losses.compound_ranking import DRAWS
from sen_toolbox.models.parts import PartLinear
from sen_toolbox.registry import HEADS, LOSSES, NECKS
from sen_toolbox.text.tokens import Tokens


@HEADS.register_module()
class AlignedPartsHead(nn.Module):
    """Classifies and ranks the whole, the parts, and the parts that know of each other.

    The loss of a level is the cross-entropy of its parts, each with a classifier that images and
    captions share, and the ranking of pairs and second captions. The batch has those in
    ``second_tokens`` (see ``SecondCaption``). Retrieval adds up the cosines of the levels.

    Args:
        num_classes: Number of training identities.
        neck: Config of the neck.
        ranking: Config of the ranking loss.
        part_weight: Weight of the two levels of parts against the whole.
        spec: Sizes of the backbone.
    """

    def __init__(
        self, *, num_classes: int, neck: dict, ranking: dict, part_weight: float, spec: PairSpec
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.neck = NECKS.build({**neck, 'spec': spec})
        self.ranking = LOSSES.build(ranking)
        self.weights = {'whole': 1.0, 'local': part_weight, 'non_local': part_weight}
        self.classifiers = nn.ModuleDict({
            name: PartLinear(*self.neck.widths[name], num_classes, bias=True) for name in LEVELS
        })  # fmt: skip
        for classifier in self.classifiers.values():
            nn.init.normal_(classifier.weight, std=0.001)
        self.stage = neck['stage']
        self.reads = frozenset({f'image.stages.{self.stage}', 'text.tokens', 'text.extra.local'})

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` and each term of it without its weight.

        Raises:
            KeyError: If the batch has no second captions.
        """
        labels = pair.of_texts(batch['labels'])
        # In this order the statistics of batch norm see them.
        image = self.neck.embed_map(self._map_of(pair))
        image = {name: pair.of_texts(parts) for name, parts in image.items()}
        text = self.neck.embed_words(pair.text)
        second_text = backbone.encode_text(_second_tokens(batch), self.reads)
        second = self.neck.embed_words(second_text)
        values, total = {}, 0.0
        everyone = gather(labels)
        for name, weight in self.weights.items():
            identity = sum(self._classify(name, level[name], labels) for level in (image, text))
            with torch.autocast(labels.device.type, enabled=False):
                ranking = self.ranking(
                    *(gather_wide(level[name].flatten(1)) for level in (image, text, second)),
                    everyone,
                    gather(self.draw_choices(name, len(labels), labels.device)),
                )
            values |= {f'id_{name}': identity, f'cr_{name}': ranking}
            total += weight * (identity + ranking)
        return dict(loss=total, **values)

    def draw_choices(self, name: str, count: int, device: torch.device) -> Tensor:
        """Draws which negatives the ranking of a level takes.

        Args:
            name: The level.
            count: Number P of pairs.
            device: Of the result.

        Returns:
            (P, 4) in 0..1.
        """
        return torch.rand(count, DRAWS, device=device)

    def _map_of(self, pair: PairFeatures) -> Tensor:
        return pair.image.stages[self.stage]

    def _classify(self, name: str, parts: Tensor, labels: Tensor) -> Tensor:
        logits = self.classifiers[name](parts)
        return F.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(logits.shape[1]))

    def embed_image(self, pair: PairFeatures) -> Tensor:
        """Unit vectors (B, 3 levels) side by side, whose inner product is the sum of cosines."""
        return _side_by_side(self.neck.embed_map(self._map_of(pair)))

    def embed_text(self, pair: PairFeatures) -> Tensor:
        """The same of captions."""
        return _side_by_side(self.neck.embed_words(pair.text))


def _side_by_side(levels: dict[str, Tensor]) -> Tensor:
    return torch.cat([F.normalize(x.flatten(1).float(), dim=1) for x in levels.values()], dim=1)


def _second_tokens(batch: dict) -> Tokens:
    if 'second_tokens' not in batch:
        raise KeyError(
            "the batch has no 'second_tokens': put SecondCaption into the training pipeline and "
            "PackPair(per_caption=['second_tokens']) at its end"
        )
    return batch['second_tokens']
