"""Identities and ranking in both spaces, and a score that is the best of several projections."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.beat.projections import ResidualProjections
from sen_toolbox.models.features import PairFeatures
from sen_toolbox.models.heads import PartRankingHead
from sen_toolbox.registry import HEADS


@HEADS.register_module()
class ProjectedRankingHead(PartRankingHead):
    """Projects each level of images M times into the space of captions, and the other way.

    The loss of a level is, beside the identities of the plain features, those of projections m of
    both, with the same classifiers, and half the sum of the rankings of images with the projections
    of captions and of the projections of images with captions.

    Embeddings give the sum of all cosines of a plain feature with a projection. The score of
    candidates is the largest of these cosines, added up over the levels.

    Args:
        projections: Number M of projections.
        bottleneck: What a level's width is divided by between the layers of a projection.
        **options: Those of ``PartRankingHead``.
    """

    def __init__(self, *, projections: int = 4, bottleneck: int = 8, **options) -> None:
        super().__init__(**options)
        self.projections = projections

        def of_each_level() -> nn.ModuleDict:
            return nn.ModuleDict(
                {
                    name: ResidualProjections(
                        count=projections, width=width, narrow=max(1, width // bottleneck)
                    )
                    for name, (_, width) in self.neck.widths.items()
                }
            )

        self.to_text, self.to_image = of_each_level(), of_each_level()

    def level_terms(
        self, name: str, images: Tensor, texts: Tensor, seconds: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The identities and the ranking of a level, of pairs (P, K, width)."""
        in_text = self.to_text[name](images).unbind(1)
        in_image, seconds_in_image = (self.to_image[name](x).unbind(1) for x in (texts, seconds))
        identity = self.classify(name, (images, texts, *in_text, *in_image), labels)
        ranking = 0.0
        # In this order the release draws.
        for number, (image, text, second) in enumerate(
            zip(in_text, in_image, seconds_in_image, strict=True)
        ):
            one, other = f'{name}.{number}.image', f'{name}.{number}.text'
            ranking = ranking + self.rank(one, images, text, second, labels)
            ranking = ranking + self.rank(other, image, texts, seconds, labels)
        return identity, ranking / 2

    def embed_image(self, pair: PairFeatures) -> Tensor:
        """Unit vectors whose inner products are the sums of all cosines, divided by a constant."""
        parts = [torch.cat(self._plain_and_sum(x), 1) for x in self._image_levels(pair)]
        return self._of_one_length(parts, 0)

    def embed_text(self, pair: PairFeatures) -> Tensor:
        """The same of captions."""
        parts = [torch.cat(self._plain_and_sum(x)[::-1], 1) for x in self._text_levels(pair)]
        return self._of_one_length(parts, 1)

    def candidate_image(self, pair: PairFeatures) -> Tensor:
        """Unit vectors (B, (1 + M) * numbers) of each level, the plain one before projections."""
        return torch.cat([x.flatten(1) for x in self._image_levels(pair)], dim=1)

    def candidate_text(self, pair: PairFeatures) -> Tensor:
        """The same of captions."""
        return torch.cat([x.flatten(1) for x in self._text_levels(pair)], dim=1)

    def score(self, texts: Tensor, images: Tensor) -> Tensor:
        """Sums over the levels (T, k) of the largest cosine of a plain feature and a projection.

        Args:
            texts: Of ``candidate_text``, (T, ...).
            images: Of ``candidate_image``, k for each caption, (T, k, ...).
        """
        total = texts.new_zeros(images.shape[:2])
        sizes = [parts * width for parts, width in self.neck.widths.values()]
        ends = [0, *torch.tensor(sizes).mul(1 + self.projections).cumsum(0).tolist()]
        for start, end in pairwise(ends):
            text = texts[:, start:end].unflatten(1, (1 + self.projections, -1))
            image = images[..., start:end].unflatten(2, (1 + self.projections, -1))
            # The plain image with projected captions, and the other way.
            there = (image[:, :, 0] @ text[:, 1:].transpose(1, 2)).amax(dim=2)
            back = torch.einsum('tkmd,td->tkm', image[:, :, 1:], text[:, 0]).amax(dim=2)
            total = total + torch.maximum(there, back)
        return total

    def _image_levels(self, pair: PairFeatures) -> list[Tensor]:
        return self._levels(self.neck.embed_image(pair), self.to_text)

    def _text_levels(self, pair: PairFeatures) -> list[Tensor]:
        return self._levels(self.neck.embed_words(pair.text), self.to_image)

    def _levels(self, features: dict[str, Tensor], project: nn.ModuleDict) -> list[Tensor]:
        """Of each level unit vectors (B, 1 + M, numbers), the plain one first."""
        levels = []
        for name in self.level_weights:
            both = torch.cat([features[name][:, None], project[name](features[name])], dim=1)
            levels.append(F.normalize(both.flatten(2).float(), dim=2))
        return levels

    def _plain_and_sum(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return level[:, 0], level[:, 1:].sum(dim=1)

    def _of_one_length(self, parts: list[Tensor], side: int) -> Tensor:
        """Rows side by side, with a number for each side that the other one has 0 for.

        It makes all of them as long as possible, so that unit vectors keep the order of sums.
        """
        rows = torch.cat(parts, dim=1)
        longest = len(parts) * (1 + self.projections**2)
        missing = (longest - rows.square().sum(dim=1, keepdim=True)).clamp(min=0).sqrt()
        added = [torch.zeros_like(missing), torch.zeros_like(missing)]
        added[side] = missing
        return F.normalize(torch.cat([rows, *added], dim=1), dim=1)
