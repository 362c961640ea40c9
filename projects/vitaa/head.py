"""Branches for the parts of a person: what they see, and what captions say of them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.vitaa.attributes import PARTS
from projects.vitaa.image import STAGE
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import gather_all, widened
from sen_toolbox.models.image_encoders.residual import (
    BasicBlock,
    stage_of_blocks,
    start_convolutions,
)
from sen_toolbox.registry import HEADS, LOSSES
from sen_toolbox.text.tokens import Tokens


@HEADS.register_module()
class AttributeHead(nn.Module):
    """Aligns the parts of images with the attributes of captions, and segments the parts.

    A branch over the map gives the embedding of each part by its maxima, and by one layer for all
    parts its segmentation, with the labels of the other parts as background. The batch has
    ``attribute_tokens`` and, unless ``segmentations`` is False, ``segmentation``; without it all
    parts count as seen, and nothing is segmented. Retrieval does without the head.

    Args:
        loss: Config of the loss ``(parts, attributes, labels, seen, told)``.
        width: Channels of a branch.
        segmentations: Whether there are segmentations.
        mask_weight: Weight of the segmentation beside the alignment.
        spec: Sizes of the backbone.
    """

    reads = frozenset({f'image.stages.{STAGE}'})

    def __init__(
        self,
        *,
        loss: dict,
        width: int = 256,
        segmentations: bool = True,
        mask_weight: float = 5.0,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        self.loss, self.mask_weight = LOSSES.build(loss), mask_weight
        channels = spec.image.stages[STAGE][0]
        self.branches = nn.ModuleList(
            stage_of_blocks(BasicBlock, channels, width, 2, 1) for _ in PARTS
        )
        start_convolutions(self.branches)
        self.segment = None
        if segmentations:
            self.segment = nn.Sequential(
                nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, len(PARTS) + 1, kernel_size=1),
            )
            start_convolutions(self.segment)
            nn.init.zeros_(self.segment[2].bias)
        self.part_projection = nn.Linear(width, spec.embed_dim)
        self.attribute_projection = nn.Linear(spec.text.width, spec.embed_dim)
        for layer in (self.part_projection, self.attribute_projection):
            nn.init.kaiming_normal_(layer.weight, mode='fan_out')
            nn.init.zeros_(layer.bias)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` and its terms, ``align`` and ``mask``.

        Raises:
            KeyError: If the batch lacks what the head reads.
        """
        _check_batch(batch, ['attribute_tokens', *(['segmentation'] if self.segment else [])])
        maps = self.maps(pair)
        parts = self.embed_parts(maps)
        seen = torch.ones_like(parts[:, :, 0], dtype=torch.bool)
        terms = {}
        if self.segment is not None:
            labels = part_labels(batch['segmentation'])
            seen = (labels > 0).flatten(2).any(dim=2)
            terms['mask'] = F.cross_entropy(
                self.segment(maps.transpose(0, 1).flatten(0, 1)).float(),
                labels.transpose(0, 1).flatten(0, 1),
            )
        attributes, told = self.embed_attributes(batch['attribute_tokens'], backbone)
        with torch.autocast(seen.device.type, enabled=False):
            compared = gather_all(
                widened(pair.of_texts(parts)),
                widened(attributes),
                pair.of_texts(batch['labels']),
                pair.of_texts(seen),
                told,
            )
            terms['align'] = self.loss(*compared)
        return dict(loss=terms['align'] + self.mask_weight * terms.get('mask', 0.0), **terms)

    def maps(self, pair: PairFeatures) -> Tensor:
        """Maps (B, K, C, h, w) of the branches."""
        given = pair.image.stages[STAGE]
        return torch.stack([branch(given) for branch in self.branches], dim=1)

    def embed_parts(self, maps: Tensor) -> Tensor:
        """Embeddings (B, K, D) of maps (B, K, C, h, w)."""
        return self.part_projection(maps.amax(dim=(3, 4)))

    def embed_attributes(self, tokens: Tokens, backbone: nn.Module) -> tuple[Tensor, Tensor]:
        """Embeddings (T, K, D) of attributes, and whether there are any of a part, (T, K)."""
        ids, mask = (x.unflatten(1, (len(PARTS), -1)) for x in (tokens.ids, tokens.mask))
        told = mask.any(dim=2)
        end = (mask.sum(dim=2) - 1).clamp(min=0)
        rows = Tokens(ids.flatten(0, 1), mask.flatten(0, 1), end.flatten())
        text = backbone.encode_text(rows, frozenset({'text.extra.pooled'}))
        pooled = text.extra['pooled'].unflatten(0, told.shape)
        return self.attribute_projection(pooled), told


def part_labels(segmentation: Tensor) -> Tensor:
    """Labels (B, K, rows, columns) that keep of a segmentation (B, rows, columns) one part each."""
    labels = segmentation.long()[:, None]
    numbers = torch.arange(1, len(PARTS) + 1, device=labels.device)[:, None, None]
    return torch.where(labels == numbers, labels, 0)


def _check_batch(batch: dict, keys: list[str]) -> None:
    if missing := [key for key in keys if key not in batch]:
        raise KeyError(
            f'the batch has no {missing}: put the transforms that make them into the training '
            'pipeline and name them in PackPair'
        )
