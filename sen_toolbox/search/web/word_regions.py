"""The regions of one image that the words of a description speak to, for the page."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.text.words import caption_words
from sen_toolbox.visualization.word_maps import effect_maps


def word_regions(
    encoder: Encoder, image: np.ndarray, text: str, *, rows: int
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

    Raises:
        ValueError: If the description has no word in it.
    """
    processor = encoder.processor
    found = caption_words(processor.tokenizer, processor.clean(text))
    if not found.words:
        raise ValueError('the description has no word in it')
    tokens = found.tokens.map(lambda array: torch.from_numpy(array).to(encoder.device))
    pixels = encoder.normalised(encoder.prepare(image)[None])
    maps, effects = effect_maps(encoder.model, pixels[0], tokens)
    height, width = processor.image_size
    size = (rows, max(1, round(rows * width / height)))
    maps = F.adaptive_avg_pool2d(maps[:, None].float(), size)[:, 0].cpu()
    maps /= maps.amax().clamp(min=1e-12)
    return [
        dict(word=word, effect=round(effect, 4), map=[[round(v, 3) for v in row] for row in grid])
        for word, effect, grid in zip(found.words, effects.tolist(), maps.tolist(), strict=True)
    ]
