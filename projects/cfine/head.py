"""Matching and classification of a whole at three grains, and a ranking by tokens."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from projects.cfine.neck import Groups
from projects.cfine.similarity import across_grains, token_by_token, with_partners
from sen_toolbox.models.features import ImageFeatures, PairFeatures, PairSpec, TextFeatures
from sen_toolbox.models.gather import gather, gather_all, widened
from sen_toolbox.models.heads import CMPCHead, MatchingHead
from sen_toolbox.models.losses import HardestRankingLoss
from sen_toolbox.models.parts import likeness
from sen_toolbox.registry import HEADS, NECKS


@HEADS.register_module()
class TokenGroupsHead(nn.Module):
    """Adds up CMPM and CMPC of three features, what keeps two of them apart, and a ranking.

    The ranking is of the sum of two scores, which training alone computes. Retrieval compares the
    three features side by side, of the lengths that they have.

    Args:
        num_classes: Number of training identities; one classifier serves all features.
        neck: Config of the neck: :class:`TokenGroups`.
        loss: Config of the loss ``(image_embedding, text_embedding, labels)``.
        loss_shares: What it counts for each feature.
        diversity_weight: Weight of the likeness of the features of both groups.
        ranking_weight: Weight of the ranking.
        margin: Margin of the ranking.
        scales: What the cosines of the first and of the second score are divided by.
        partners: Of how many words a patch has the mean in the second score, and of how many
            patches a word.
        spec: Sizes of the backbone.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        neck: dict,
        loss: dict,
        loss_shares: Sequence[float] = (1.0, 1.0, 0.1),
        diversity_weight: float = 0.2,
        ranking_weight: float = 10.0,
        margin: float = 0.2,
        scales: tuple[float, float] = (0.07, 0.01),
        partners: tuple[int, int] = (3, 3),
        spec: PairSpec,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.neck = NECKS.build({**neck, 'spec': spec})
        self.reads = self.neck.reads
        spec = replace(spec, embed_dim=self.neck.width)
        self.matching = MatchingHead(loss=loss, spec=spec)
        self.classifier = CMPCHead(num_classes=num_classes, spec=spec)
        self.ranking = HardestRankingLoss(margin=margin)
        self.loss_shares, self.scales, self.partners = tuple(loss_shares), scales, tuple(partners)
        self.diversity_weight, self.ranking_weight = diversity_weight, ranking_weight

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` and each term of it, without its weight."""
        image, text = self.neck.of_images(pair.image), self.neck.of_captions(pair.text)
        terms, total = {}, 0.0
        features = zip(image.features.unbind(1), text.features.unbind(1), strict=True)
        for number, (x, z) in enumerate(features):
            one = PairFeatures(ImageFeatures(x), TextFeatures(z), pair.image_of)
            cmpm = self.matching(one, batch, backbone)['loss']
            cmpc = self.classifier(one, batch, backbone)['loss']
            terms |= {f'cmpm_{number}': cmpm, f'cmpc_{number}': cmpc}
            total = total + self.loss_shares[number] * cmpm + cmpc
        terms['diversity_image'] = likeness(pair.of_texts(image.features[:, 1:]))
        terms['diversity_text'] = likeness(text.features[:, 1:])
        diversity = terms['diversity_image'] + terms['diversity_text']
        image = Groups(*(pair.of_texts(x) for x in vars(image).values()))
        labels = gather(pair.of_texts(batch['labels']))
        with torch.autocast(labels.device.type, enabled=False):
            terms['ranking'] = self.ranking.of_scores(sum(self.scores(image, text)), labels)
        total = total + self.diversity_weight * diversity + self.ranking_weight * terms['ranking']
        return dict(loss=total, **terms)

    def scores(self, image: Groups, text: Groups) -> tuple[Tensor, Tensor]:
        """Both scores (B, B) of the images and captions of all processes."""
        sides = (image.whole, text.whole, image.chosen, text.chosen)
        gathered = gather_all(*map(widened, sides))
        wholes, chosen = gathered[:2], gathered[2:]
        first = across_grains(wholes, chosen, self.scales[0])
        patches, words = (x[:, : x.shape[1] // 2] for x in chosen)
        of_patches, of_words = with_partners(patches, words, self.partners)
        second = token_by_token(patches, of_patches, self.scales[1])
        second = second + token_by_token(of_words, words, self.scales[1])
        return first, second / 2

    def embed_image(self, pair: PairFeatures) -> Tensor:
        """The three features side by side, (B, 3 W)."""
        return widened(self.neck.of_images(pair.image).features.flatten(1))

    def embed_text(self, pair: PairFeatures) -> Tensor:
        """The same of captions."""
        return widened(self.neck.of_captions(pair.text).features.flatten(1))
