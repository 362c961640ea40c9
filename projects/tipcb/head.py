"""Matching at three levels: an early map, stripes of the last one, and all of it."""

import torch
from torch import Tensor, nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import gather_all, widened
from sen_toolbox.models.parts import stripe_maxima
from sen_toolbox.registry import HEADS, LOSSES, NECKS


@HEADS.register_module()
class LevelsHead(nn.Module):
    """Adds up a matching loss of the low level, of each part and of the whole.

    Everything is a maximum: over a map, over a stripe of it, over the words of a branch. The whole
    is the maximum over the parts, and what search compares.

    Args:
        neck: Config of the neck that gives ``(low, parts)`` of words.
        loss: Config of the loss ``(image_embedding, text_embedding, labels)``.
        spec: Sizes of the backbone.
    """

    def __init__(self, *, neck: dict, loss: dict, spec: PairSpec) -> None:
        super().__init__()
        self.parts, self.low, self.high = neck['parts'], neck['low_stage'], neck['high_stage']
        self.neck = NECKS.build({**neck, 'spec': spec})
        self.loss = LOSSES.build(loss)
        self.reads = frozenset(
            {f'image.stages.{self.low}', f'image.stages.{self.high}', 'text.tokens'}
        )

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` and each term of it: ``low``, ``part_1`` and on, ``whole``."""
        stages = pair.image.stages
        parts = stripe_maxima(stages[self.high], self.parts)
        image = self._levels(stages[self.low].amax(dim=(2, 3)), parts)
        text = self._levels(*self.neck(pair.text.tokens))
        levels = [widened(x) for name in image for x in (pair.of_texts(image[name]), text[name])]
        labels, *levels = gather_all(pair.of_texts(batch['labels']), *levels)
        with torch.autocast(labels.device.type, enabled=False):
            values = {
                name: self.loss(*compared, labels)
                for name, *compared in zip(image, levels[::2], levels[1::2], strict=True)
            }
        return dict(loss=sum(values.values()), **values)

    @staticmethod
    def _levels(low: Tensor, parts: Tensor) -> dict[str, Tensor]:
        by_part = {f'part_{number}': part for number, part in enumerate(parts.unbind(1), start=1)}
        return {'low': low, **by_part, 'whole': parts.amax(dim=1)}

    def embed_image(self, pair: PairFeatures) -> Tensor:
        """Embeddings (B, D): the whole."""
        return pair.image.stages[self.high].amax(dim=(2, 3))

    def embed_text(self, pair: PairFeatures) -> Tensor:
        """Embeddings (T, D): the whole."""
        _, parts = self.neck(pair.text.tokens)
        return parts.amax(dim=1)
