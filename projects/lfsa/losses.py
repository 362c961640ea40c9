"""Losses that tell pairs of one image, of one person and of others apart."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.losses.similarity import same_identity
from sen_toolbox.registry import LOSSES


@dataclass(frozen=True)
class PairKinds:
    """What each image and caption of a batch are to each other, (B, B) symmetric.

    Attributes:
        same_image: The caption is one of the image.
        same_person: It is one of another image of the person.
        other: It is one of another person.
    """

    same_image: Tensor
    same_person: Tensor
    other: Tensor

    @classmethod
    def of(cls, labels: Tensor, images: Tensor) -> 'PairKinds':
        """Those of identity labels (B,) and numbers (B,) of images."""
        same_image, same_label = same_identity(images), same_identity(labels)
        return cls(same_image, same_label & ~same_image, ~same_label)


@LOSSES.register_module()
class BoundaryLoss(nn.Module):
    """A soft bound for the cosines of each kind of pairs.

    Each is given as (bound, scale): softplus(scale (bound - s)) for pairs of one image and of one
    person, softplus(scale (s - bound)) for others. The loss is twice the sum over all pairs,
    divided by the batch.

    Args:
        same_image: That of pairs of one image.
        same_person: That of further pairs of one person.
        other: That of pairs of two persons.
    """

    def __init__(
        self,
        *,
        same_image: tuple[float, float] = (0.6, 7.0),
        same_person: tuple[float, float] = (0.45, 2.0),
        other: tuple[float, float] = (0.4, 40.0),
    ) -> None:
        super().__init__()
        self.bounds = tuple(same_image), tuple(same_person), tuple(other)

    def forward(self, similarity: Tensor, kinds: PairKinds, draws: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            similarity: Cosines (B, B) of images and captions.
            kinds: What they are to each other.
            draws: Not used.
        """
        total = 0.0
        masks = (kinds.same_image, kinds.same_person, kinds.other)
        for (bound, scale), mask, sign in zip(self.bounds, masks, (1, 1, -1), strict=True):
            total = total + (F.softplus(sign * scale * (bound - similarity)) * mask).sum()
        return 2 * total / len(similarity)


@LOSSES.register_module()
class HardSampleLoss(nn.Module):
    """Each pair of one image, or of one person, against one other person, by hinges.

    An image is compared with a caption of another person, a caption with an image of one. The sum
    over all pairs in both directions is divided by the batch.

    Args:
        drawn: Whether the other is drawn with a probability that grows with its cosine s, like
            1 + s; else it is the nearest, or counts as of cosine 0 if all are below.
        margin: How much nearer a pair of one image is to be.
        person_margin: How much nearer a further pair of one person is to be.
        person_weight: What such a pair counts.
    """

    def __init__(
        self,
        *,
        drawn: bool,
        margin: float = 0.15,
        person_margin: float = 0.05,
        person_weight: float = 2.0,
    ) -> None:
        super().__init__()
        self.drawn = drawn
        self.margin, self.person_margin, self.person_weight = margin, person_margin, person_weight

    def forward(self, similarity: Tensor, kinds: PairKinds, draws: Tensor) -> Tensor:
        """Returns a scalar.

        Args:
            similarity: Cosines (B, B) of images and captions.
            kinds: What they are to each other.
            draws: Numbers (B, 2) above 0 and up to 1, which draw an image for each caption and a
                caption for each image.
        """
        total = 0.0
        for number, rows in enumerate((similarity.t(), similarity)):
            if self.drawn:
                negative = rows.gather(1, draw_others(rows, kinds.other, draws[:, number]))
                # In a batch of one person there is none.
                negative = negative.masked_fill(~kinds.other.any(1, keepdim=True), -torch.inf)
            else:
                negative = (rows * kinds.other).max(dim=1, keepdim=True).values
            short = negative - rows
            total = total + (F.relu(short + self.margin) * kinds.same_image).sum()
            far = (F.relu(short + self.person_margin) * kinds.same_person).sum()
            total = total + self.person_weight * far
        return total / len(similarity)


@torch.no_grad()
def draw_others(rows: Tensor, other: Tensor, draws: Tensor) -> Tensor:
    """Columns (B, 1) of other persons, each with a probability that grows like 1 + its cosine.

    Args:
        rows: Cosines (B, B).
        other: Which of them belong to another person.
        draws: Numbers (B,) above 0 and up to 1.
    """
    weights = (1 + rows) * other
    # A running sum that is the same in every run, on a GPU too.
    sums = weights @ torch.ones_like(weights).triu()
    found = (sums < draws[:, None].to(sums) * sums[:, -1:]).sum(dim=1, keepdim=True)
    return found.clamp(max=rows.shape[1] - 1)
