"""Colours grey pictures by their captions."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.batch_norm import GlobalBatchNorm, statistics_kept
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.heads.restoration import to_grey
from sen_toolbox.registry import HEADS, IMAGE_ENCODERS, LOSSES

# What may be predicted of each pixel, and how many values that is.
TARGETS = {'colours': 3, 'chroma': 2}


@HEADS.register_module()
class ColouringHead(nn.Module):
    """A U-Net that gives a grey picture its colours, guided by the caption channel by channel.

    LapsCore, ICCV 2021, image colourisation. Retrieval does not use it.

    Args:
        loss: Config of the loss ``(predicted, target) -> scalar`` of values (T, V, h, w).
        encoder: Config of the U-Net's contracting path, an image encoder with stages; None for the
            image encoder of the retrieval, which then reads grey pictures, too.
        levels: Stages of it at which the caption weighs the channels; None for all.
        width: Channels of each level of the expanding path.
        target: 'colours', all three normalised ones, or 'chroma', red and blue less the grey.
        full_size: Whether the result is compared at the size of the picture; else at that of the
            first stage, with the mean colours there.
        spec: Sizes of the backbone.

    Raises:
        ValueError: If there is no such target, the encoder has no stages, or none of these names.
    """

    def __init__(
        self,
        *,
        loss: dict,
        encoder: Mapping | None,
        levels: Sequence[str] | None = None,
        width: int = 64,
        target: str = 'colours',
        full_size: bool = False,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        if target not in TARGETS:
            raise ValueError(f'target is one of {list(TARGETS)}, got {target!r}')
        self.encoder = None if encoder is None else IMAGE_ENCODERS.build(encoder)
        stages = (spec.image if self.encoder is None else self.encoder.spec).stages
        if not stages or set(levels or ()) - set(stages):
            raise ValueError(f'levels are some of the stages {list(stages)}, got {levels}')
        self.target, self.full_size, self.loss = target, full_size, LOSSES.build(loss)
        self.stages = tuple(stages)
        guided = self.stages if levels is None else levels
        below = 0
        self.expand = nn.ModuleDict()
        for name in reversed(self.stages):
            text_width = spec.embed_dim if name in guided else None
            self.expand[name] = _Level(below + stages[name][0], width, text_width)
            below = width
        self.predict = nn.Conv2d(width, TARGETS[target], kernel_size=1)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` of colouring ``batch['images']``, once for each caption."""
        images = batch['images']
        predicted = self.colour(images, pair, backbone)
        target = pair.of_texts(images)
        if self.target == 'chroma':
            target = (target - to_grey(target))[:, ::2]
        target = F.adaptive_avg_pool2d(target, predicted.shape[2:])
        return dict(loss=self.loss(predicted, target))

    def colour(self, images: Tensor, pair: PairFeatures, backbone: nn.Module) -> Tensor:
        """Values (T, V, h, w) predicted from grey images and the embeddings of T captions.

        Args:
            images: Normalised images (B, 3, H, W).
            pair: Features of their captions.
            backbone: Encodes the grey images where there is no encoder for that alone.
        """
        grey, reads = to_grey(images), frozenset(f'stages.{name}' for name in self.stages)
        if self.encoder is not None:
            maps = self.encoder(grey, reads).stages
        else:
            with statistics_kept(backbone):
                reads = frozenset(f'image.{name}' for name in reads)
                maps = backbone.encode_image(grey, reads).stages
        x = None
        for name, level in self.expand.items():
            x = level(pair.of_texts(maps[name]), x, pair.text.embedding)
        x = self.predict(x)
        return F.interpolate(x, size=images.shape[2:]) if self.full_size else x


class _Level(nn.Module):
    """Joins a map with the level below it, and weighs the channels by the caption, if it is told.

    Args:
        channels: Those of the map and of the level below together.
        width: Those of the result.
        text_width: Width of the caption's embedding; None for a level without a caption.
    """

    def __init__(self, channels: int, width: int, text_width: int | None) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
        self.norm = GlobalBatchNorm(width)
        self.weigh = None if text_width is None else nn.Linear(text_width, width)

    def forward(self, x: Tensor, below: Tensor | None, text: Tensor) -> Tensor:
        if below is not None:
            x = torch.cat([x, F.interpolate(below, size=x.shape[2:])], dim=1)
        x = F.relu(self.norm(self.convolution(x)))
        return x if self.weigh is None else x * self.weigh(text).sigmoid()[:, :, None, None]
