"""Features of the whole person, of each part, and of parts that know of each other."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.features import PairFeatures, PairSpec, TextFeatures
from sen_toolbox.models.necks.non_local import SLOPE, NonLocalParts
from sen_toolbox.models.parts import PartLinear, stripe_maxima
from sen_toolbox.registry import NECKS


@NECKS.register_module()
class AlignedParts(nn.Module):
    """Projections that images and captions share: one of the whole, one of each part.

    Part k of an image is the maximum over stripe k of its map. Part k of a caption is the maximum
    over its words, each weighted by how far it belongs to part k, which a layer tells from its
    state. Of the whole it is the maximum over the map, and over the words and the padding: a
    caption that is shorter than the context has no number below 0 there, as in the release.

    Args:
        spec: Sizes of the backbone, whose map and states have one width.
        stage: The map.
        parts: Number K of parts.
        width: Width F of the whole and of a part.
        non_local_width: Width A of a part that knows of the others.

    Raises:
        ValueError: If map and states differ in width.
    """

    def __init__(
        self, *, spec: PairSpec, stage: str, parts: int, width: int, non_local_width: int
    ) -> None:
        super().__init__()
        channels = spec.image.stages[stage][0]
        if channels != spec.text.width:
            raise ValueError(
                f'the map {stage} has {channels} channels and a state {spec.text.width}: one '
                'projection is for both, so make hidden_dim of the text encoder that number'
            )
        self.reads = frozenset({f'image.stages.{stage}', 'text.tokens', 'text.extra.local'})
        self.stage, self.parts = stage, parts
        self.context_length = spec.text.context_length
        self.widths = {
            'whole': (1, width),
            'local': (parts, width),
            'non_local': (parts, non_local_width),
        }
        self.whole = PartLinear(1, channels, width)
        self.part = PartLinear(parts, channels, width)
        self.word_part = nn.Linear(channels, parts, bias=False)
        self.non_local = NonLocalParts(parts=parts, width=width, out_width=non_local_width)

    def embed_image(self, pair: PairFeatures) -> dict[str, Tensor]:
        """The levels (B, K, width) of images, the whole with K = 1."""
        features = pair.image.stages[self.stage]
        return self._levels(features.amax(dim=(2, 3)), stripe_maxima(features, self.parts))

    def embed_words(self, text: TextFeatures) -> dict[str, Tensor]:
        """The same of T captions."""
        whole, words = self.whole_and_words(text)
        inside = text.mask.unsqueeze(2)
        shares = self.word_part(words).sigmoid()
        # One part after the other, by a maximum that keeps places: all at once, or with amax, would
        # take the memory of as many sets of words.
        parts = [
            (words * share[:, :, None]).masked_fill(~inside, -torch.inf).max(dim=1).values
            for share in shares.unbind(2)
        ]
        return self._levels(whole, torch.stack(parts, dim=1))

    def whole_and_words(self, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """What the whole (T, C) of captions is made of, and the words (T, L, C) of their parts.

        Here their states stand in ``tokens`` and ``extra['local']``.
        """
        inside = text.mask.unsqueeze(2)
        # A caption without a known word has one token, of padding.
        whole = text.tokens.masked_fill(~inside, -torch.inf).amax(dim=1)
        is_short = inside.sum(dim=1) < self.context_length
        return torch.where(is_short, whole.clamp(min=0), whole), text.extra['local']

    def _levels(self, whole: Tensor, parts: Tensor) -> dict[str, Tensor]:
        local = F.leaky_relu(self.part(parts), SLOPE)
        return {
            'whole': self.whole(whole[:, None]),
            'local': local,
            'non_local': self.non_local(local),
        }
