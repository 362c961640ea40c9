"""Which regions of an image the words of a caption speak to, by two definitions.

The cosine of CLIP's word and patch tokens is not among them: nothing in training asks for it to
mean anything, and it does not.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.text.tokens import Tokens

# Windows that hide a part of the image: an eighth of its height, a quarter of its width, each
# overlapping the next by half; 15 x 7 of them.
WINDOWS = (8, 4)
IMAGES_AT_ONCE = 32


@torch.no_grad()
def effect_maps(model: nn.Module, image: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """How much of what a word adds to the score comes from each region.

    A word adds the difference between the score of the whole caption and that of the caption
    without it. A region's part is how much of this is lost when a window around it is filled with
    the image's mean colour; between the middles of windows it is interpolated. It asks of a model
    nothing but embeddings, and takes 106 images through the image encoder.

    Args:
        model: A retriever.
        image: Normalised image (3, H, W).
        tokens: The caption, and it again without each of its words: 1 + words rows.

    Returns:
        Maps (words, H, W), and what each word adds (words,); both in units of the score.
    """
    _, height, width = image.shape
    rows, columns = max(1, height // WINDOWS[0]), max(1, width // WINDOWS[1])
    tops, lefts = _starts(height, rows), _starts(width, columns)
    corners = [(top, left) for top in tops for left in lefts]
    mean = image.mean(dim=(1, 2), keepdim=True)
    embeddings = []
    for start in range(0, len(corners), IMAGES_AT_ONCE):
        part = corners[start : start + IMAGES_AT_ONCE]
        hidden = image.repeat(len(part), 1, 1, 1)
        for view, (top, left) in zip(hidden, part, strict=True):
            view[:, top : top + rows, left : left + columns] = mean
        embeddings.append(model.embed_images(hidden))
    whole = model.embed_images(image[None])[0]

    text = model.embed_text(tokens)
    added = text[0] - text[1:]
    effects = added @ whole
    lost = effects[:, None] - added @ torch.cat(embeddings).T

    maps = lost.unflatten(1, (len(tops), len(lefts)))[None]
    inner = (height - rows + 1, width - columns + 1)
    maps = F.interpolate(maps, size=inner, mode='bilinear', align_corners=True)
    # Beyond the middles of the outermost windows.
    half = (columns // 2, columns - 1 - columns // 2, rows // 2, rows - 1 - rows // 2)
    return F.pad(maps, half, mode='replicate')[0], effects


def attention_maps(
    model: nn.Module, image: Tensor, tokens: Tokens, places: Sequence[slice]
) -> Tensor | None:
    """The weights of a head's cross-attention between words and patches, mean over its heads.

    Words attend to patches in some heads, patches to words in others. A map is the mean over the
    tokens of a word. Attention says where information may flow from, not what comes of it.
    Each map is scaled to a maximum of 1.

    Args:
        model: A retriever.
        image: Normalised image (3, H, W).
        tokens: One caption.
        places: Where the tokens of each word are.

    Returns:
        Maps (words, rows, columns) on the grid of patches; None if no head has such weights.
    """
    for head in model.heads.values():
        if hasattr(head, 'word_attention'):
            weights = head.word_attention(image[None], tokens, model.backbone)
            if weights is not None:
                maps = torch.stack([weights[0, place].mean(dim=0) for place in places])
                maps = maps / maps.amax(dim=1, keepdim=True).clamp_min(1e-12)
                return maps.unflatten(1, model.backbone.spec.image.grid)
    return None


def _starts(size: int, window: int) -> list[int]:
    """Where windows begin, evenly from the first pixel to the last, overlapping by half."""
    count = 2 * (size // window) - 1
    return torch.linspace(0, size - window, count).round().int().tolist()
