"""Identities and ranking of a whole and parts, and of an image with itself."""

import torch
from torch import Tensor

from sen_toolbox.models.gather import gather_all, widened
from sen_toolbox.models.heads import PartRankingHead
from sen_toolbox.registry import HEADS, LOSSES


@HEADS.register_module()
class SuppressionHead(PartRankingHead):
    """Adds that an image stays nearer to itself than to others when its map is filtered.

    Args:
        kept: Config of the loss ``(before, after, labels)`` of that.
        **options: Those of ``PartRankingHead``.
    """

    def __init__(self, *, kept: dict, **options) -> None:
        super().__init__(**options)
        self.kept = LOSSES.build(kept)

    def further_terms(self, image: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The term ``kept``.

        Args:
            image: What the neck gives of B images.
            labels: Identity labels (B,).
        """
        with torch.autocast(labels.device.type, enabled=False):
            before, after = (widened(image[name]) for name in ('before', 'after'))
            return dict(kept=self.kept(*gather_all(before, after, labels)))
