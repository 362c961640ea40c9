"""Identity-level retrieval metrics, computed in chunks by counting instead of sorting."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sen_toolbox.checks import checked_at_least

# 8 MB of float32 scores: larger chunks fall out of a processor's cache, smaller ones starve matmul.
_SCORES_PER_CHUNK = 2**21


def retrieval_metrics(
    queries: Tensor,
    gallery: Tensor,
    query_ids: Tensor,
    gallery_ids: Tensor,
    *,
    topk: Sequence[int] = (1, 5, 10),
    chunk_size: int | None = None,
) -> dict[str, float]:
    """Rank a gallery by inner product with every query and score the ranking, in percent.

    A tie between a right and a wrong item counts against the method. Scores that differ by no more
    than the rounding error of a float32 inner product are a tie: a matrix product does not give
    the same bits in every column, and features that have collapsed to a constant would otherwise be
    ranked by that noise.

    Args:
        queries: (Q, D), L2-normalised for cosine similarity.
        gallery: (G, D), on the queries' device, where everything is computed.
        query_ids: (Q,) identity of each query.
        gallery_ids: (G,) identity of each gallery item.
        topk: The k of every R@k; may exceed G.
        chunk_size: Queries that are scored at once. By default as many as keep a chunk near two
            million scores, so that memory does not grow with Q.

    Returns:
        'R<k>' for every k of ``topk``, then 'mAP' and 'mINP', as defined in
        :func:`metrics_from_similarity`.

    Raises:
        ValueError: If shapes do not agree, if a feature is NaN or infinite, or if a query has no
            match in the gallery.

    >>> images = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> captions = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    >>> found = retrieval_metrics(captions, images, torch.tensor([7, 8]), torch.tensor([7, 8, 7]))
    >>> found['R1'], found['R5'], round(found['mAP'], 4), round(found['mINP'], 4)
    (50.0, 100.0, 66.6667, 58.3333)
    """
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            'queries and gallery must be (Q, D) and (G, D) with one D, got '
            f'{tuple(queries.shape)} and {tuple(gallery.shape)}'
        )
    for name, features, identities in (
        ('query_ids', queries, query_ids),
        ('gallery_ids', gallery, gallery_ids),
    ):
        if identities.ndim != 1 or len(identities) != len(features) or not len(identities):
            raise ValueError(
                f'{name} must be one identity for each of the {len(features)} features and at '
                f'least one, got {len(identities)}'
            )
    queries, gallery = queries.float(), gallery.float()
    _require_finite(queries, 'queries')
    _require_finite(gallery, 'gallery')
    return metrics_from_rows(
        lambda start, stop: queries[start:stop] @ gallery.T,
        query_ids.to(queries.device, torch.int64),
        gallery_ids.to(queries.device, torch.int64),
        topk=topk,
        chunk_size=chunk_size,
        tolerance=rounding_error(queries, gallery),
    )


def metrics_from_similarity(
    similarity: Tensor,
    query_ids: Tensor,
    gallery_ids: Tensor,
    *,
    topk: Sequence[int] = (1, 5, 10),
    chunk_size: int | None = None,
) -> dict[str, float]:
    """Score the ranking that a similarity matrix implies, in percent.

    For a query with n positives, of which the k-th best is found at rank r_k:
    R@K = [r_1 <= K], AP = 1/n * sum_k k / r_k, INP = n / r_n; each is averaged over the queries.
    An equal score counts against the method: r_k = k + number of wrong items that score as high as
    the k-th positive or higher.

    Args:
        similarity: (Q, G), larger is more similar, any finite values.
        query_ids: (Q,) identity of each query.
        gallery_ids: (G,) identity of each gallery item.
        topk: The k of every R@k; may exceed G.
        chunk_size: Queries that are ranked at once; see :func:`retrieval_metrics`.

    Returns:
        'R<k>' for every k of ``topk``, then 'mAP' and 'mINP'.

    Raises:
        ValueError: If shapes do not agree, if a score is NaN or infinite, or if a query has no
            match in the gallery.

    >>> tied = torch.zeros(1, 4)
    >>> metrics_from_similarity(tied, torch.tensor([3]), torch.tensor([3, 1, 2, 1]), topk=(1, 4))
    {'R1': 0.0, 'R4': 100.0, 'mAP': 25.0, 'mINP': 25.0}
    """
    if not similarity.numel() or similarity.shape != (len(query_ids), len(gallery_ids)):
        raise ValueError(
            f'similarity must be (queries, gallery) = ({len(query_ids)}, {len(gallery_ids)}) '
            f'like the identities and not empty, got {tuple(similarity.shape)}'
        )
    return metrics_from_rows(
        lambda start, stop: _finite_rows(similarity, start, stop),
        query_ids.to(similarity.device, torch.int64),
        gallery_ids.to(similarity.device, torch.int64),
        topk=topk,
        chunk_size=chunk_size,
        tolerance=0.0,
    )


def metrics_from_rows(
    score_rows: Callable[[int, int], Tensor],
    query_ids: Tensor,
    gallery_ids: Tensor,
    *,
    topk: Sequence[int],
    chunk_size: int | None,
    tolerance: float,
) -> dict[str, float]:
    """Score a ranking that is made chunk by chunk, in percent.

    Args:
        score_rows: From the first and behind the last query to their scores (n, G), finite.
        query_ids: (Q,) identity of each query.
        gallery_ids: (G,) identity of each gallery item.
        topk: The k of every R@k; may exceed G.
        chunk_size: Queries that are scored at once; None for a chunk near two million scores.
        tolerance: Scores that differ by no more are a tie.

    Returns:
        See :func:`metrics_from_similarity`.
    """
    if not topk or min(topk) < 1:
        raise ValueError(f'topk must hold integers from 1 up, got {tuple(topk)}')
    if chunk_size is None:
        chunk_size = max(1, _SCORES_PER_CHUNK // len(gallery_ids))
    checked_at_least('chunk_size', chunk_size, 1)
    by_id, first, counts = _find_positives(query_ids, gallery_ids)

    sums = torch.zeros(len(topk) + 2, dtype=torch.float64, device=query_ids.device)
    for start in range(0, len(query_ids), chunk_size):
        stop = min(start + chunk_size, len(query_ids))
        scores = score_rows(start, stop)
        count = counts[start:stop]
        # Padding repeats the row's last positive.
        slots = torch.arange(int(count.max()), device=count.device)
        slots = torch.minimum(slots[None], count[:, None] - 1)
        columns = by_id[first[start:stop, None] + slots]
        ranks = _ranks_of_positives(scores, columns, count, tolerance)
        sums += _sum_measures(ranks, count, topk)

    percent = (sums / len(query_ids) * 100).tolist()
    return dict(zip([*(f'R{k}' for k in topk), 'mAP', 'mINP'], percent, strict=True))


def _find_positives(query_ids: Tensor, gallery_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gallery indices by identity, where in them each query's positives start, and how many."""
    sorted_ids, by_id = gallery_ids.sort()
    first = torch.searchsorted(sorted_ids, query_ids)
    counts = torch.searchsorted(sorted_ids, query_ids, right=True) - first
    unmatched = (counts == 0).nonzero().flatten()
    if len(unmatched):
        index = int(unmatched[0])
        raise ValueError(
            f'query {index} (identity {int(query_ids[index])}) has no match among the '
            f'{len(gallery_ids)} gallery items; {len(unmatched)} of {len(query_ids)} queries '
            'have none. Remove them, or check that queries and gallery are of the same split'
        )
    return by_id, first, counts


def _ranks_of_positives(scores: Tensor, columns: Tensor, count: Tensor, tolerance: float) -> Tensor:
    """Rank (from 1) of each positive, worst first: (n, P) of which a row's first `count` are valid.

    Args:
        scores: (n, G).
        columns: (n, P) positions of each row's positives, padded with a repeated one.
        count: (n,) number of positives of each row.
        tolerance: A wrong item ties with a positive from this much below its score.
    """
    num_rows, width = columns.shape
    order = torch.arange(width, device=scores.device)
    positives = scores.gather(1, columns).masked_fill(order >= count[:, None], torch.inf)
    thresholds = positives.sort(dim=1).values - tolerance

    # Most items lie below all positives and need no further look; a positive is not a wrong item.
    reaching = scores >= thresholds[:, :1]
    reaching.scatter_(1, columns, False)
    found = reaching.flatten().nonzero().squeeze(1)
    values = scores.flatten().index_select(0, found)
    # Binary search: an item's bin is the number of positives that it equals or beats. The bins of
    # a row are `size` places, and each but the first holds the threshold that leads to it.
    size = 2 ** width.bit_length()
    entries = F.pad(thresholds, (1, size - width - 1), value=torch.inf).flatten()
    bins = found // scores.shape[1] * size
    step = size // 2
    while step:
        bins += step * (entries.index_select(0, bins + step) <= values)
        step //= 2
    histogram = torch.bincount(bins, minlength=num_rows * size)
    histogram = histogram.view(num_rows, size)[:, 1 : width + 1]
    wrong_before = histogram.flip(1).cumsum(1).flip(1)
    return count[:, None] - order + wrong_before


def _sum_measures(ranks: Tensor, count: Tensor, topk: Sequence[int]) -> Tensor:
    """Sum of R@k for each k, AP and INP over the rows of `ranks`, in float64."""
    # The slot with the j-th worst positive holds number count - j; padding becomes number 0.
    number = (count[:, None] - torch.arange(ranks.shape[1], device=ranks.device)).clamp(min=0)
    precision = number.double() / ranks.clamp(min=1)
    best = ranks.gather(1, count[:, None] - 1).squeeze(1)
    recalls = [(best <= k).double().sum() for k in topk]
    average_precision = (precision.sum(dim=1) / count).sum()
    inverse_penalty = precision[:, 0].sum()
    return torch.stack([*recalls, average_precision, inverse_penalty])


def _finite_rows(similarity: Tensor, start: int, stop: int) -> Tensor:
    """Some rows in at least float32."""
    rows = similarity[start:stop]
    if not _all_finite(rows):
        row = start + int((~rows.isfinite()).any(dim=1).nonzero()[0])
        raise ValueError(f'similarity: row {row} (a query) holds a NaN or infinite score')
    if not rows.dtype.is_floating_point or rows.dtype.itemsize < 4:
        rows = rows.float()
    return rows


def _require_finite(features: Tensor, name: str) -> None:
    if not _all_finite(features):
        finite = features.isfinite().all(dim=1)
        row = int((~finite).nonzero()[0])
        raise ValueError(
            f'{name}: row {row} holds NaN or infinity ({int((~finite).sum())} of '
            f'{len(features)} rows do); the model has diverged or overflowed'
        )


def _all_finite(x: Tensor) -> bool:
    # Much cheaper than to ask every number; a NaN is both the least and the largest.
    return bool(torch.stack(torch.aminmax(x)).isfinite().all())


def rounding_error(queries: Tensor, gallery: Tensor) -> float:
    """How far two float32 inner products of the same numbers may lie apart.

    The error of D additions in differing order grows like sqrt(D). Constant unit features were
    measured to spread by 2.5 machine epsilons at D = 512 and by 4 at D = 2048; this allows 6.7 and
    12.3.
    """
    scale = float(queries.norm(dim=1).max() * gallery.norm(dim=1).max())
    # No inner product exceeds the product of the lengths.
    if not math.isfinite(scale):
        raise ValueError('queries and gallery are so long that inner products may be infinite')
    return scale * torch.finfo(torch.float32).eps * (1 + queries.shape[1] ** 0.5 / 4)
