"""Collects from a model and a test split what the boards show."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sen_toolbox.text.tokens import Tokens


def ranked_queries(
    captions: Sequence[str],
    person_ids: Sequence[int],
    scores: Tensor,
    gallery: Sequence[Mapping[str, Any]],
    *,
    topk: int,
    show_sought: bool = False,
) -> list[dict]:
    """Rows of a retrieval board for the best ``topk`` images of each caption.

    Args:
        captions: The queries.
        person_ids: Identity of each query.
        scores: Similarity (queries, gallery).
        gallery: Records with ``img_path`` and ``person_id``.
        topk: Number of images per row.
        show_sought: Whether to add the best-ranked right image and its rank; an equal score of a
            wrong image counts against it.
    """
    best = scores.topk(min(topk, len(gallery)), dim=1)
    gallery_ids = torch.tensor([record['person_id'] for record in gallery])
    rows = []
    for index, (caption, person_id) in enumerate(zip(captions, person_ids, strict=True)):
        found = [gallery[i] for i in best.indices[index].tolist()]
        row = dict(
            caption=caption,
            image_paths=[record['img_path'] for record in found],
            correct=[record['person_id'] == person_id for record in found],
            scores=best.values[index].tolist(),
        )
        if show_sought:
            right = gallery_ids == person_id
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


def other_person(person_ids: Sequence[int], index: int) -> int:
    """Index of a record of another identity: the first one from half the list further on.

    Raises:
        ValueError: If all are of one identity.
    """
    for step in range(len(person_ids)):
        other = (index + len(person_ids) // 2 + step) % len(person_ids)
        if person_ids[other] != person_ids[index]:
            return other
    raise ValueError(
        f'all {len(person_ids)} records are of identity {person_ids[index]}; no caption is wrong'
    )


def illustrating_head(model: nn.Module) -> nn.Module | None:
    """The first head with pictures of what it does, if the model has one."""
    heads = model.heads.values()
    return next((head for head in heads if getattr(head, 'illustrate', None)), None)


def illustrated_rows(
    model: nn.Module,
    batch: dict,
    captions: Sequence[str],
    *,
    others: Mapping[str, tuple[Tokens, Sequence[str]]] = MappingProxyType({}),
    seed: int = 0,
) -> list[dict]:
    """Rows of a board of what a head does to images, by their own and by other captions.

    Args:
        model: A retriever whose head illustrates.
        batch: Preprocessed pairs; one caption per image.
        captions: Text of the captions.
        others: Tokens and text of other captions, one for each image, by title. What they change
            stands in a column of its own.
        seed: Decides what is drawn at random.

    Returns:
        Per image ``columns``, uint8 (H, W, 3) by title, ``caption``, and ``others``, dicts with
        ``title``, ``columns`` and ``caption``.

    Raises:
        KeyError: If no head of the model illustrates.
    """
    head = illustrating_head(model)
    if head is None:
        raise KeyError(f'no head of the model draws a board; its heads are {sorted(model.heads)}')

    def drawn(tokens: Tokens) -> dict[str, Tensor]:
        return head.illustrate(
            batch['images'],
            tokens,
            model.backbone,
            to_pixels=model.data_preprocessor.to_pixels,
            seed=seed,
        )

    columns = drawn(batch['tokens'])
    rows: list[dict[str, Any]] = [
        dict(columns=pictures, caption=caption, others=[])
        for pictures, caption in zip(_per_image(columns), captions, strict=True)
    ]
    for title, (tokens, texts) in others.items():
        misguided = drawn(tokens.map(lambda tensor: tensor.to(batch['images'].device)))
        changed = {
            name: pictures
            for name, pictures in misguided.items()
            if not torch.equal(pictures, columns[name])
        }
        if changed:
            for row, pictures, text in zip(rows, _per_image(changed), texts, strict=True):
                row['others'].append(dict(title=title, columns=pictures, caption=text))
    return rows


def _per_image(columns: Mapping[str, Tensor]) -> list[dict[str, np.ndarray]]:
    """The pictures of each image by title."""
    arrays = {title: _to_arrays(images) for title, images in columns.items()}
    return [dict(zip(arrays, row, strict=True)) for row in zip(*arrays.values(), strict=True)]


def _to_arrays(images: Tensor) -> list[np.ndarray]:
    rounded = images.round().clamp(0, 255).to(torch.uint8)
    return list(rounded.permute(0, 2, 3, 1).cpu().numpy())
