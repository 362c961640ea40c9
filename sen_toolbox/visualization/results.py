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
    show_sought: bool = False,
) -> list[dict]:
    """Rows of a retrieval board for the best ``topk`` images of each caption.

    Args:
        captions: The queries.
        pids: Identity of each query.
        scores: Similarity (queries, gallery).
        gallery: Records with ``img_path`` and ``pid``.
        topk: Number of images a row.
        show_sought: Whether to add the best-ranked right image and its rank; an equal score of a
            wrong image counts against it.
    """
    best = scores.topk(min(topk, len(gallery)), dim=1)
    gallery_pids = torch.tensor([record['pid'] for record in gallery])
    rows = []
    for index, (caption, pid) in enumerate(zip(captions, pids, strict=True)):
        found = [gallery[i] for i in best.indices[index].tolist()]
        row = dict(
            caption=caption,
            image_paths=[record['img_path'] for record in found],
            correct=[record['pid'] == pid for record in found],
            scores=best.values[index].tolist(),
        )
        if show_sought:
            right = gallery_pids == pid
            sought = int(scores[index].masked_fill(~right, -torch.inf).argmax())
            before = (scores[index] >= scores[index, sought]) & ~right
            row['sought'] = gallery[sought]['img_path']
            row['sought_rank'] = int(before.sum()) + 1
        rows.append(row)
    return rows


def spread(total: int, count: int) -> list[int]:
    """At most ``count`` of the indices 0..total-1, evenly spread, the same each time."""
    count = min(total, count)
    return [(2 * number + 1) * total // (2 * count) for number in range(count)]


def other_person(pids: Sequence[int], index: int) -> int:
    """Index of a record of another identity: the first one from half the list further on.

    Raises:
        ValueError: If all are of one identity.
    """
    for step in range(len(pids)):
        other = (index + len(pids) // 2 + step) % len(pids)
        if pids[other] != pids[index]:
            return other
    raise ValueError(f'all {len(pids)} records are of identity {pids[index]}; no caption is wrong')


def restoration_head(model: nn.Module) -> nn.Module:
    """The head that restores images.

    Raises:
        KeyError: If the model has no head called 'restoration'.
    """
    if 'restoration' not in model.heads:
        raise KeyError(f'the model restores nothing; its heads are {sorted(model.heads)}')
    return model.heads['restoration']


@torch.no_grad()
def restored_images(
    model: nn.Module,
    batch: dict,
    captions: Sequence[str],
    *,
    wrong: tuple[Tensor, Sequence[str]] | None = None,
    seed: int = 0,
) -> list[dict]:
    """Rows of a restoration board: what the restoration head sees and paints.

    Patches that the head sees keep their colours in the restoration, as it is neither asked nor
    trained to paint them. No generator of random numbers is touched.

    Args:
        model: A retriever with a restoration head.
        batch: Preprocessed pairs; one caption an image.
        captions: Text of the captions.
        wrong: Tokens (B, L) and text of captions of other people, which guide a second
            restoration from the same patches.
        seed: Decides which patches are hidden.

    Raises:
        KeyError: If the model has no head called 'restoration'.
    """
    head = restoration_head(model)
    images = batch['images']
    num_patches = head.grid_size[0] * head.grid_size[1]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(len(images), num_patches, generator=generator)
    order = noise.argsort(dim=1).to(images.device)
    visible = (order.argsort(dim=1) < head.num_kept - 1)[..., None]
    to_pixels = model.data_preprocessor.to_pixels
    original = head.to_patches(to_pixels(images))
    grey = head.to_patches(to_pixels(images).mean(dim=1, keepdim=True).expand_as(images))

    def painted(tokens: Tensor) -> Tensor:
        text_tokens = model.backbone.encode_text(tokens)
        predicted, _ = head.restore(images, text_tokens, order, model.backbone)
        pixels = head.to_patches(to_pixels(head.to_images(predicted)))
        return torch.where(visible, original, pixels)

    parts = dict(
        original=original,
        masked=torch.where(visible, grey, torch.full_like(grey, HIDDEN_LEVEL)),
        restored=painted(batch['tokens']),
    )
    texts = dict(caption=captions)
    if wrong is not None:
        parts['misguided'] = painted(wrong[0].to(images.device))
        texts['wrong_caption'] = wrong[1]
    fields = {name: _to_arrays(head.to_images(part)) for name, part in parts.items()} | texts
    return [dict(zip(fields, row, strict=True)) for row in zip(*fields.values(), strict=True)]


def _to_arrays(images: Tensor) -> list[np.ndarray]:
    rounded = images.round().clamp(0, 255).to(torch.uint8)
    return list(rounded.permute(0, 2, 3, 1).cpu().numpy())
