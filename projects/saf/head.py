"""Matching and classification of a whole and its parts, which are kept apart."""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.features import ImageFeatures, PairFeatures, PairSpec, TextFeatures
from sen_toolbox.models.heads import CMPCHead, MatchingHead
from sen_toolbox.models.parts import likeness
from sen_toolbox.registry import HEADS, NECKS


@HEADS.register_module()
class AlignedTokensHead(nn.Module):
    """Matches and classifies class token and parts by the same loss, and keeps parts apart.

    Retrieval adds up the cosines of all.

    Args:
        num_classes: Number of training identities; one classifier serves the whole and all parts.
        neck: Config of the neck that gives both (B, 1 + K, W) of a pair.
        loss: Config of the loss ``(image_embedding, text_embedding, labels)``.
        diversity_weight: Weight of what keeps the parts apart.
        spec: Sizes of the backbone.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        neck: dict,
        loss: dict,
        diversity_weight: float,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        self.num_classes, self.diversity_weight = num_classes, diversity_weight
        self.neck = NECKS.build({**neck, 'spec': spec})
        self.reads = self.neck.reads
        spec = replace(spec, embed_dim=self.neck.width)
        self.matching = MatchingHead(loss=loss, spec=spec)
        self.classifier = CMPCHead(num_classes=num_classes, spec=spec)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` and each term of it, without its weight."""
        image, text = self.neck(pair)
        values = {}
        for number, (x, z) in enumerate(zip(image.unbind(1), text.unbind(1), strict=True)):
            whole = PairFeatures(ImageFeatures(x), TextFeatures(z), pair.image_of)
            values[f'cmpm_{number}'] = self.matching(whole, batch, backbone)['loss']
            values[f'cmpc_{number}'] = self.classifier(whole, batch, backbone)['loss']
        diversity = dict(
            diversity_image=likeness(pair.of_texts(image[:, 1:])),
            diversity_text=likeness(text[:, 1:]),
        )
        loss = sum(values.values()) + self.diversity_weight * sum(diversity.values())
        return dict(loss=loss, **values, **diversity)

    def embed_image(self, pair: PairFeatures) -> Tensor:
        """Unit vectors of class token and parts side by side, (B, (1 + K) W)."""
        return F.normalize(self.neck(replace(pair, text=None))[0], dim=2).flatten(1)

    def embed_text(self, pair: PairFeatures) -> Tensor:
        """The same of captions."""
        return F.normalize(self.neck(replace(pair, image=None))[1], dim=2).flatten(1)
