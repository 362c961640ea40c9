"""Text-to-image search whose best images are put into the order of a score of their own."""

from collections.abc import Callable

import torch
from torch import Tensor

from sen_toolbox.evaluation.ranking import metrics_from_rows
from sen_toolbox.evaluation.reranking import neighbour_overlap

# Numbers of candidate features that are scored at once: 64 MB of float32.
NUMBERS_AT_ONCE = 2**24


def candidate_metrics(
    score: Callable[[Tensor, Tensor], Tensor],
    *,
    texts: Tensor,
    images: Tensor,
    candidate_texts: Tensor,
    candidate_images: Tensor,
    text_ids: Tensor,
    image_ids: Tensor,
    count: int,
    with_neighbours: bool = False,
) -> dict[str, float]:
    """R1, R5, R10, mAP and mINP by keys 't2i/R1' and so on, in percent.

    The best images by inner product come first, in the order of ``score``; all others keep theirs
    behind them.

    Args:
        score: From rows of T captions and of k candidates each, (T, ...) and (T, k, ...), to
            (T, k).
        texts: Embeddings (T, D), L2-normalised.
        images: Embeddings (G, D), L2-normalised.
        candidate_texts: What ``score`` takes of each caption, (T, ...).
        candidate_images: What it takes of each image, (G, ...).
        text_ids: Identity (T,) of each caption.
        image_ids: Identity (G,) of each image.
        count: Candidates per caption, 1 to G.
        with_neighbours: Whether :func:`~sen_toolbox.evaluation.reranking.neighbour_overlap` is
            added to the scores.

    Raises:
        ValueError: If a score is not finite.
    """

    gallery = (images @ images.T).double() if with_neighbours else None
    text_ids, image_ids = text_ids.to(texts.device), image_ids.to(texts.device)

    def score_rows(start: int, stop: int) -> Tensor:
        plain = (texts[start:stop] @ images.T).double()
        # A tie at the last place counts against the method: an image of the right person is taken
        # last. So small a step changes no other order of numbers from single precision.
        right = text_ids[start:stop, None] == image_ids
        lowered = plain.nextafter(plain.new_tensor(-torch.inf))
        best = torch.where(right, lowered, plain).topk(count, dim=1).indices
        anew = score(candidate_texts[start:stop], candidate_images[best]).double()
        if not anew.isfinite().all():
            raise ValueError('a score of a candidate is NaN or infinite')
        # All others below the worst candidate, in steps that keep their order.
        others = plain.scatter(1, best, -torch.inf).amax(dim=1, keepdim=True)
        others = torch.where(others.isfinite(), others, 0)
        lowest = anew.amin(dim=1, keepdim=True)
        scores = (plain - others + lowest - 1).scatter(1, best, anew)
        return scores + neighbour_overlap(scores, gallery) if with_neighbours else scores

    numbers = count * candidate_images[0].numel()
    found = metrics_from_rows(
        score_rows,
        text_ids,
        image_ids,
        topk=(1, 5, 10),
        chunk_size=max(1, NUMBERS_AT_ONCE // max(1, numbers)),
        tolerance=0.0,
    )
    return {f't2i/{name}': value for name, value in found.items()}
