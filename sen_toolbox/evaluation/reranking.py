"""Re-ranking: what a gallery tells about itself corrects the order of a plain search.

Both ways look at the test gallery, k-reciprocal also at all other queries. Their figures are
therefore not those of plain retrieval, and are reported apart from them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sen_toolbox.checks import checked_at_least, checked_share
from sen_toolbox.evaluation.ranking import metrics_from_similarity, retrieval_metrics

# 64 MB of float32 in the largest temporary.
_VALUES_PER_CHUNK = 2**24


def expand_queries(queries: Tensor, gallery: Tensor, *, k: int = 5, alpha: float = 3.0) -> Tensor:
    """Each query with its k best items added, weighted by score^alpha; unit vectors (Q, D).

    Alpha query expansion (Radenovic, Tolias, Chum, "Fine-tuning CNN image retrieval with no human
    annotation", 2018; alpha 3 is theirs). An item that does not score above zero adds nothing.

    Args:
        queries: (Q, D), L2-normalised.
        gallery: (G, D), L2-normalised.
        k: Items that are added, from 1.
        alpha: How fast weights fall with the score; 0 weighs all alike.

    Raises:
        ValueError: If ``k`` is below 1.
    """
    checked_at_least('k', k, 1)
    parts = []
    for part in queries.split(max(1, _VALUES_PER_CHUNK // len(gallery))):
        scores, items = (part @ gallery.T).topk(min(k, len(gallery)))
        weights = scores.clamp(min=0) ** alpha * (scores > 0)
        parts.append(part + (weights[:, None] @ gallery[items])[:, 0])
    return F.normalize(torch.cat(parts), dim=1)


def k_reciprocal(
    queries: Tensor, gallery: Tensor, *, k1: int = 20, k2: int = 6, share: float = 0.3
) -> Tensor:
    """Similarity (Q, G) by k-reciprocal encoding; larger is more similar.

    Zhong, Zheng, Cao, Li, "Re-ranking person re-identification with k-reciprocal encoding", 2017,
    with the values of that paper. Queries and gallery are one pool. Two items are alike as far as
    they share neighbours that have them among their own neighbours too (Jaccard distance); the
    distance of the vectors, squared and divided by the largest of its row, is mixed in.

    Args:
        queries: (Q, D), L2-normalised.
        gallery: (G, D), L2-normalised.
        k1: Neighbours that are looked at, from 1.
        k2: Nearest items whose encodings are averaged, from 1; 1 for none but the item itself.
        share: Weight of the plain distance, in 0..1.

    Raises:
        ValueError: If a value is out of its range.
    """
    checked_at_least('k1', k1, 1)
    checked_at_least('k2', k2, 1)
    checked_share('share', share)
    pool = torch.cat([queries, gallery]).float()
    count, split = len(pool), len(queries)
    nearest = _nearest(pool, min(max(k1 + 1, k2), count))
    encodings = _encodings(pool, nearest, k1)
    if k2 > 1:
        encodings = _averaged(encodings, nearest[:, :k2])
    return share * -_distances(pool[:split], pool)[:, split:] - (1 - share) * _jaccard(
        encodings, split, count
    )


def neighbour_overlap(similarity: Tensor, gallery_similarity: Tensor, *, k: int = 5) -> Tensor:
    """Share of the common ones among the neighbours of query and item, in 0..1, (Q, G).

    Intersection over union of the k best items of the query and the k nearest of the item, itself
    among them. Several methods add it to their scores (NAFS, arXiv:2101.03036; CM-MoCo,
    arXiv:2110.10807, a twentieth of it).

    Args:
        similarity: Scores (Q, G) of queries and items.
        gallery_similarity: Scores (G, G) of items and items.
        k: Neighbours that are looked at, from 1.

    Raises:
        ValueError: If ``k`` is below 1.
    """
    checked_at_least('k', k, 1)
    k = min(k, len(gallery_similarity))
    near = torch.zeros_like(gallery_similarity)
    near.scatter_(1, gallery_similarity.topk(k).indices, 1.0)
    best = torch.zeros_like(similarity)
    best.scatter_(1, similarity.topk(k).indices, 1.0)
    common = best @ near.to(best).T
    return common / (2 * k - common)


def visual_neighbours(queries: Tensor, gallery: Tensor) -> Tensor:
    """Similarity (Q, G) with :func:`neighbour_overlap` added; both (., D), L2-normalised."""
    similarity = queries @ gallery.T
    return similarity + neighbour_overlap(similarity, gallery @ gallery.T)


RERANKERS = {
    'k_reciprocal': k_reciprocal,
    'visual_neighbours': visual_neighbours,
    'query_expansion': lambda queries, gallery: expand_queries(queries, gallery) @ gallery.T,
}


def reranked_metrics(
    method: str, queries: Tensor, gallery: Tensor, query_ids: Tensor, gallery_ids: Tensor
) -> dict[str, float]:
    """The measures of :func:`~sen_toolbox.evaluation.ranking.retrieval_metrics` after re-ranking.

    Args:
        method: A key of ``RERANKERS``.
        queries: (Q, D), L2-normalised.
        gallery: (G, D), L2-normalised.
        query_ids: (Q,) identity of each query.
        gallery_ids: (G,) identity of each item.
    """
    person_ids = dict(query_ids=query_ids, gallery_ids=gallery_ids)
    if method == 'query_expansion':
        return retrieval_metrics(expand_queries(queries, gallery), gallery, **person_ids)
    return metrics_from_similarity(RERANKERS[method](queries, gallery), **person_ids)


def _distances(rows: Tensor, pool: Tensor) -> Tensor:
    """Squared Euclidean distances of unit vectors, each row divided by its largest."""
    distances = (2 - 2 * rows @ pool.T).clamp(min=0)
    return distances / distances.amax(dim=1, keepdim=True).clamp(min=1e-12)


def _nearest(pool: Tensor, k: int) -> Tensor:
    """The k nearest of each item (N, k), itself first."""
    parts = []
    for rows in torch.arange(len(pool), device=pool.device).split(_rows_of(len(pool))):
        scores = pool[rows] @ pool.T
        scores[torch.arange(len(rows), device=pool.device), rows] = torch.inf
        parts.append(scores.topk(k).indices)
    return torch.cat(parts)


def _reciprocal(nearest: Tensor) -> Tensor:
    """Where (N, k) a neighbour has the item among its own neighbours."""
    own = torch.arange(len(nearest), device=nearest.device)[:, None, None]
    width = nearest.shape[1]
    parts = [
        (nearest[near] == item).any(dim=2)
        for near, item in zip(
            nearest.split(_rows_of(width**2)), own.split(_rows_of(width**2)), strict=True
        )
    ]
    return torch.cat(parts)


def _encodings(pool: Tensor, nearest: Tensor, k1: int) -> Tensor:
    """Sparse (N, N): weights of the k-reciprocal neighbours, enlarged by theirs; rows sum to 1."""
    count = len(pool)
    whole = nearest[:, : k1 + 1]
    half = nearest[:, : round(k1 / 2) + 1]
    whole_is, half_is = _reciprocal(whole), _reciprocal(half)
    parts = []
    for rows in torch.arange(count, device=pool.device).split(_rows_of(count + half.numel())):
        member = torch.zeros(len(rows), count, dtype=torch.bool, device=pool.device)
        member.scatter_(1, whole[rows], whole_is[rows])
        chosen = member.clone()
        local = torch.arange(len(rows), device=pool.device)[:, None]
        for near, is_near in zip(whole[rows].T, whole_is[rows].T, strict=True):
            theirs, valid = half[near], half_is[near]
            common = (member[local, theirs] & valid).sum(dim=1)
            # By more than two thirds, as in the paper.
            joins = is_near & (3 * common > 2 * valid.sum(dim=1))
            row, place = (valid & joins[:, None]).nonzero(as_tuple=True)
            chosen[row, theirs[row, place]] = True
        weights = (-_distances(pool[rows], pool)).exp() * chosen
        weights /= weights.sum(dim=1, keepdim=True)
        row, column = weights.nonzero(as_tuple=True)
        parts.append((rows[row], column, weights[row, column]))
    row, column, weight = (torch.cat(part) for part in zip(*parts, strict=True))
    return _sparse(row, column, weight, count)


def _averaged(encodings: Tensor, nearest: Tensor) -> Tensor:
    """The mean encoding of the nearest items of each item."""
    count, k = nearest.shape
    (rows, columns), values = encodings.indices(), encodings.values()
    places, sizes = _places_of(nearest.flatten(), _first_places(rows, count))
    items = torch.arange(count, device=rows.device).repeat_interleave(k)
    return _sparse(items.repeat_interleave(sizes), columns[places], values[places] / k, count)


def _jaccard(encodings: Tensor, split: int, count: int) -> Tensor:
    """Jaccard distances (Q, G) of the first ``split`` items to the others."""
    (rows, columns), values = encodings.indices(), encodings.values()
    starts = _first_places(rows, split).tolist()
    # By column, for the items that share a neighbour with a query.
    item = rows >= split
    order = columns[item].argsort(stable=True)
    first = _first_places(columns[item][order], count)
    item_rows, item_values = rows[item][order] - split, values[item][order]
    distances = torch.empty(split, count - split, device=values.device)
    for query, (start, stop) in enumerate(zip(starts, starts[1:], strict=False)):
        places, sizes = _places_of(columns[start:stop], first)
        weights = values[start:stop].repeat_interleave(sizes)
        shared = torch.zeros(count - split, device=values.device)
        shared.index_add_(0, item_rows[places], torch.minimum(weights, item_values[places]))
        # Rows sum to 1, so the union is 2 less the intersection.
        distances[query] = 1 - shared / (2 - shared)
    return distances


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, count: int) -> Tensor:
    """Sparse (count, count), sorted by rows; values of one place are added."""
    indices = torch.stack([rows, columns])
    size = (count, count)
    return torch.sparse_coo_tensor(indices, values, size, check_invariants=False).coalesce()


def _first_places(keys: Tensor, count: int) -> Tensor:
    """Where each key from 0 to ``count`` begins in sorted keys."""
    return torch.searchsorted(keys, torch.arange(count + 1, device=keys.device))


def _places_of(wanted: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Places of all entries with the wanted keys, one key after the other, and how many each."""
    sizes = first[wanted + 1] - first[wanted]
    before = sizes.cumsum(0) - sizes
    total = torch.arange(int(sizes.sum()), device=first.device)
    return total + (first[wanted] - before).repeat_interleave(sizes), sizes


def _rows_of(width: int) -> int:
    return max(1, _VALUES_PER_CHUNK // width)
