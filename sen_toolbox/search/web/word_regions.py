"""The regions of one image that the words of a description speak to, for the page."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sen_toolbox.search.bpe import END_ID, START_ID, encode
from sen_toolbox.search.towers import TowerEncoder
from sen_toolbox.visualization.word_maps import effect_maps


def word_regions(
    encoder: TowerEncoder, image: np.ndarray, text: str, *, rows: int
) -> list[dict[str, Any]]:
    """What each word adds to the score of an image, and from which regions.

    Args:
        encoder: The model.
        image: RGB (H, W, 3) uint8.
        text: The description; words beyond the model's context are left out.
        rows: Rows of a map; columns follow from the model's image.

    Returns:
        'word', 'effect' in units of the score, and 'map', lists of numbers up to 1, which is the
        largest of all maps.
    """
    ids, words, places = [], [], []
    for word in text.split():
        pieces = encode(word)
        if len(ids) + len(pieces) > encoder.context_length - 2:
            break
        if pieces:
            words.append(word)
            places.append(slice(len(ids) + 1, len(ids) + 1 + len(pieces)))
            ids += pieces
    tokens = torch.zeros(encoder.context_length, dtype=torch.int64)
    tokens[: len(ids) + 2] = torch.tensor([START_ID, *ids, END_ID])
    model = encoder.model
    prepared = torch.from_numpy(encoder.prepare(image))[None]
    pixels = model.data_preprocessor(dict(images=prepared))['images']
    maps, effects = effect_maps(model, pixels[0], tokens.to(pixels.device), places)
    height, width = encoder.image_size
    size = (rows, max(1, round(rows * width / height)))
    maps = F.adaptive_avg_pool2d(maps[:, None].float(), size)[:, 0].cpu()
    maps /= maps.amax().clamp(min=1e-12)
    return [
        dict(word=word, effect=round(effect, 4), map=[[round(v, 3) for v in row] for row in grid])
        for word, effect, grid in zip(words, effects.tolist(), maps.tolist(), strict=True)
    ]
