"""A ResNet in stairs: the whole image, thirds of it, halves of it."""

import copy
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sen_toolbox.models.features import ImageFeatures
from sen_toolbox.models.image_encoders import ResNet
from sen_toolbox.registry import IMAGE_ENCODERS

# What each further stage begins as.
COPIES = {
    'branch2_layer3.': 'layer3.',
    'branch2_layer4.': 'layer4.',
    'branch3_layer4.': 'layer4.',
}
THIRDS, HALVES = 3, 2


@IMAGE_ENCODERS.register_module()
class StaircaseResNet(ResNet):
    """A :class:`ResNet` whose stripes have last stages of their own.

    ``extra.stripes`` (B, 5, W) are means over three stripes, which leave the trunk behind layer2,
    and over two, which leave it behind layer3. In training the stripes of a map are put into a
    random order before their stages, so that convolutions see other neighbours at the seams, and
    back behind them.

    Args:
        **options: Those of ``ResNet``.

    Raises:
        ValueError: If the map of layer2 has an odd number of rows, or fewer than six.
    """

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.provides |= {'extra.stripes'}
        rows = self.spec.stages['layer2'][1]
        if rows % 2 or rows < 2 * THIRDS:
            raise ValueError(
                f'the map of layer2 is cut into stripes: it needs an even number of rows, from '
                f'{2 * THIRDS} up, got {rows}; set another image_size'
            )
        for name, source in COPIES.items():
            stage = self.get_submodule(source.removesuffix('.'))
            self.add_module(name.removesuffix('.'), copy.deepcopy(stage))

    def completed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a file; those of a stage are its copies', too, if it is of a ResNet."""
        copies = {
            name + key.removeprefix(source): value
            for name, source in COPIES.items()
            for key, value in state.items()
            if key.startswith(source)
        }
        return super().completed({**copies, **state})

    def draw_order(self, count: int) -> list[int]:
        """In which order the stripes of a map stand in a training step."""
        return random.sample(range(count), count)

    def forward(
        self, images: Tensor, reads: frozenset[str] = frozenset(), keep: Tensor | None = None
    ) -> ImageFeatures:
        """Like that of :class:`ResNet`, with ``extra.stripes``."""
        trunk = {'layer2', 'layer3'} if 'extra.stripes' in reads else set()
        wanted = frozenset(f'stages.{name}' for name in trunk)
        features = super().forward(images, (reads - {'extra.stripes'}) | wanted, keep)
        if trunk:
            stages = features.stages
            thirds = nn.Sequential(self.branch2_layer3, self.branch2_layer4)
            features.extra = dict(
                stripes=torch.cat(
                    [
                        self._means(stages['layer2'], THIRDS, 2, thirds),
                        self._means(stages['layer3'], HALVES, 1, self.branch3_layer4),
                    ],
                    dim=1,
                )
            )
        return features

    def _means(self, x: Tensor, count: int, stride: int, stages: nn.Module) -> Tensor:
        """Means (B, count, W) of the stripes behind their stages, from the top down."""
        rows = x.shape[2] // stride
        ends = [number * rows // count for number in range(count + 1)]
        heights = [end - start for start, end in pairwise(ends)]
        order = self.draw_order(count) if self.training else list(range(count))
        stripes = x.split([height * stride for height in heights], dim=2)
        mixed = stages(torch.cat(_reordered(stripes, order), dim=2))
        parts = mixed.split(_reordered(heights, order), dim=2)
        back = sorted(range(count), key=order.__getitem__)
        return torch.stack([part.mean(dim=(2, 3)) for part in _reordered(parts, back)], dim=1)


def _reordered(values: Sequence, order: Sequence[int]) -> list:
    return [values[number] for number in order]
