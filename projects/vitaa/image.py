"""A ResNet that ends early, and wide blocks over its last map."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from sen_toolbox.models.features import ImageFeatures
from sen_toolbox.models.image_encoders import ResNet
from sen_toolbox.models.image_encoders.residual import (
    BasicBlock,
    stage_of_blocks,
    start_convolutions,
)
from sen_toolbox.registry import IMAGE_ENCODERS

STAGE = 'layer3'
BRANCH = 'branch.'


@IMAGE_ENCODERS.register_module()
class BranchedResNet(ResNet):
    """A :class:`ResNet` up to layer3, whose embedding is the mean over two blocks behind it.

    Args:
        branch_width: Channels of these blocks.
        **options: Those of ``ResNet``, without ``last_stage``.
    """

    def __init__(self, *, branch_width: int = 2048, **options) -> None:
        super().__init__(last_stage=STAGE, **options)
        channels = self.spec.stages[STAGE][0]
        self.branch = stage_of_blocks(BasicBlock, channels, branch_width, 2, 1)
        start_convolutions(self.branch)
        self.spec = replace(self.spec, width=branch_width)

    def completed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a file; the blocks stay as they are, if it has none."""
        own = {k: v for k, v in self.state_dict().items() if k.startswith(BRANCH)}
        return super().completed(own | dict(state))

    def forward(
        self, images: Tensor, reads: frozenset[str] = frozenset(), keep: Tensor | None = None
    ) -> ImageFeatures:
        """Like that of :class:`ResNet`."""
        features = super().forward(images, reads | {f'stages.{STAGE}'}, keep)
        features.embedding = self.branch(features.stages[STAGE]).mean(dim=(2, 3))
        return features
