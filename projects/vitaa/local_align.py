"""Alignment of parts of images and what captions say of them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.losses.similarity import cosines, same_identity
from sen_toolbox.registry import LOSSES

NEIGHBOURS_OF = ('part', 'sample')


@LOSSES.register_module()
class LocalAlignLoss(nn.Module):
    r"""Soft hinges on the cosines of a part of images and of its attributes, mean over the parts.

    For each sample whose part is seen, its image is compared with all attributes that exist; and if
    its own attribute exists, that is compared with all images where the part is seen. Positives are
    those of the same identity and the reciprocal neighbours: of an image the attributes among its
    ``neighbours`` best that have it among their own best, of an attribute the images likewise. The
    release takes, for all samples alike, those of the sample whose number is that of the *part*.

    Args:
        neighbours: Number of the best ones.
        neighbours_of: Whose neighbours are positives: 'part', as in the release, or 'sample', each
            sample's own.
        same_bound: Cosine above which positives cost little.
        other_bound: Cosine below which negatives cost little.
        same_scale: Steepness for positives.
        other_scale: Steepness for negatives.

    Raises:
        ValueError: If ``neighbours_of`` is another word.
    """

    def __init__(
        self,
        *,
        neighbours: int = 8,
        neighbours_of: str = 'part',
        same_bound: float = 0.6,
        other_bound: float = 0.4,
        same_scale: float = 10.0,
        other_scale: float = 40.0,
    ) -> None:
        super().__init__()
        if neighbours_of not in NEIGHBOURS_OF:
            raise ValueError(f'neighbours_of is one of {NEIGHBOURS_OF}, got {neighbours_of!r}')
        self.neighbours, self.neighbours_of = neighbours, neighbours_of
        self.same_bound, self.other_bound = same_bound, other_bound
        self.same_scale, self.other_scale = same_scale, other_scale

    def forward(
        self, parts: Tensor, attributes: Tensor, labels: Tensor, seen: Tensor, told: Tensor
    ) -> Tensor:
        """Returns a scalar.

        Args:
            parts: Embeddings (B, K, D) of the parts of images, of any length.
            attributes: Embeddings (B, K, D) of what captions say of them.
            labels: Identity labels (B,) of the pairs.
            seen: Whether the part is seen in the image, (B, K).
            told: Whether the caption says something of it, (B, K).
        """
        same = same_identity(labels)
        total = 0.0
        for number in range(parts.shape[1]):
            similarity = cosines(attributes[:, number], parts[:, number])
            near = self.reciprocal(similarity.detach(), number)
            near_columns = self.reciprocal(similarity.detach().t(), number).t()
            up = F.softplus(-self.same_scale * (similarity - self.same_bound))
            down = F.softplus(self.other_scale * (similarity - self.other_bound))
            is_seen, is_told = seen[:, number], told[:, number]
            counts = is_seen[:, None] & is_told
            rows = torch.where(same | near, up, down).masked_fill(~counts, 0).sum()
            # The sample of a column counts if both are there.
            counts = counts & is_seen
            columns = torch.where(same | near_columns, up, down).masked_fill(~counts, 0).sum()
            total = total + (rows + columns) / len(labels)
        return total / parts.shape[1]

    def reciprocal(self, similarity: Tensor, part: int) -> Tensor:
        """Which columns are neighbours of the row of each sample, (B, B).

        Args:
            similarity: Cosines (B, B).
            part: Number of the part.
        """
        count = min(self.neighbours, len(similarity))
        best, best_of_columns = (torch.zeros_like(similarity, dtype=torch.bool) for _ in range(2))
        best.scatter_(1, similarity.topk(count, dim=1).indices, True)
        best_of_columns.scatter_(0, similarity.topk(count, dim=0).indices, True)
        near = best & best_of_columns
        if self.neighbours_of == 'sample':
            return near
        return near[min(part, len(near) - 1)].expand_as(near)
