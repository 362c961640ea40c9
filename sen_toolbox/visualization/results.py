"""Collects from a model and a test split what the boards show."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HIDDEN_LEVEL = 128


def ranked_queries(
    captions: Sequence[str],
    pids: Sequence[int],
    scores: Tensor,
    gallery: Sequence[Mapping[str, Any]],
    *,
    topk: int,
) -> list[dict]:
    """Rows of a retrieval board for the best ``topk`` images of each caption.

    Args:
        captions: The queries.
        pids: Identity of each query.
        scores: Similarity (queries, gallery).
        gallery: Records with ``img_path`` and ``pid``.
        topk: Number of images a row.
    """
    best = scores.topk(min(topk, len(gallery)), dim=1)
    rows = []
    for caption, pid, values, indices in zip(
        captions, pids, best.values.tolist(), best.indices.tolist(), strict=True
    ):
        found = [gallery[i] for i in indices]
        rows.append(
            dict(
                caption=caption,
                image_paths=[record['img_path'] for record in found],
                correct=[record['pid'] == pid for record in found],
                scores=values,
            )
        )
    return rows


@torch.no_grad()
def restored_images(model: nn.Module, batch: dict, captions: Sequence[str]) -> list[dict]:
    """Rows of a restoration board: what the restoration head sees and paints.

    Patches that the head sees keep their colours in the restoration, as it is neither asked nor
    trained to paint them.

    Args:
        model: A retriever with a restoration head.
        batch: Preprocessed pairs; one caption an image.
        captions: Text of the captions.

    Raises:
        KeyError: If the model has no head called 'restoration'.
    """
    if 'restoration' not in model.heads:
        raise KeyError(f'the model restores nothing; its heads are {sorted(model.heads)}')
    head = model.heads['restoration']
    images = batch['images']
    text_tokens = model.backbone.encode_text(batch['tokens'])
    order = head.draw_noise(len(images), images.device).argsort(dim=1)
    predicted, rank = head.restore(images, text_tokens, order, model.backbone)
    visible = (rank < head.num_kept - 1)[..., None]

    to_pixels = model.data_preprocessor.to_pixels
    original = head.to_patches(to_pixels(images))
    grey = head.to_patches(to_pixels(images).mean(dim=1, keepdim=True).expand_as(images))
    masked = torch.where(visible, grey, torch.full_like(grey, HIDDEN_LEVEL))
    painted = torch.where(visible, original, head.to_patches(to_pixels(head.to_images(predicted))))
    return [
        dict(original=o, masked=m, restored=r, caption=caption)
        for o, m, r, caption in zip(
            *(_to_arrays(head.to_images(part)) for part in (original, masked, painted)),
            captions,
            strict=True,
        )
    ]


def _to_arrays(images: Tensor) -> list[np.ndarray]:
    rounded = images.round().clamp(0, 255).to(torch.uint8)
    return list(rounded.permute(0, 2, 3, 1).cpu().numpy())
