"""Which regions of an image the words of a caption speak to, by two definitions.

The cosine of CLIP's word and patch tokens is not among them: nothing in training asks for it to
mean anything, and it does not.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Windows that hide a part of the image: an eighth of its height, a quarter of its width, each
# overlapping the next by half; 15 x 7 of them.
WINDOWS = (8, 4)
IMAGES_AT_ONCE = 32
# Masks over which the attention of a decoder of masked patches is averaged.
NUM_MASKS = 8


def words_of(pieces: Iterable[tuple[str, str, bool]]) -> list[tuple[str, slice]]:
    """Words and their places among the tokens, the start token counted.

    Args:
        pieces: Tokens without start and end as ``(text, was, ends_word)``.
    """
    words, text, start = [], '', 1
    for position, (piece, _, ends_word) in enumerate(pieces, start=1):
        text += piece
        if ends_word:
            words.append((text, slice(start, position + 1)))
            text, start = '', position + 1
    return words


@torch.no_grad()
def effect_maps(
    model: nn.Module, image: Tensor, tokens: Tensor, places: Sequence[slice]
) -> tuple[Tensor, Tensor]:
    """How much of what a word adds to the score comes from each region.

    A word adds the difference between the score of the whole caption and that of the caption
    without it. A region's part is how much of this is lost when a window around it is filled with
    the image's mean colour; between the middles of windows it is interpolated. It asks of a model
    nothing but embeddings, and takes 106 images through the image tower.

    Args:
        model: A retriever.
        image: Normalised image (3, H, W).
        tokens: Token ids (L,).
        places: Where the tokens of each word are.

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

    shortened = []
    for place in places:
        rest = torch.cat([tokens[: place.start], tokens[place.stop :]])
        shortened.append(F.pad(rest, (0, len(tokens) - len(rest))))
    text = model.embed_text(torch.stack([tokens, *shortened]))
    added = text[0] - text[1:]
    effects = added @ whole
    lost = effects[:, None] - added @ torch.cat(embeddings).T

    maps = lost.unflatten(1, (len(tops), len(lefts)))[None]
    inner = (height - rows + 1, width - columns + 1)
    maps = F.interpolate(maps, size=inner, mode='bilinear', align_corners=True)
    # Beyond the middles of the outermost windows.
    half = (columns // 2, columns - 1 - columns // 2, rows // 2, rows - 1 - rows // 2)
    return F.pad(maps, half, mode='replicate')[0], effects


def cross_attention_head(model: nn.Module) -> nn.Module | None:
    """The first head in which words and patches attend to each other."""
    for head in model.heads.values():
        neck = getattr(head, 'neck', None)
        # SEN's decoder can be told to look at the image alone.
        if hasattr(neck, 'cross_attention') and getattr(neck, 'guide', 'text') == 'text':
            return head
    return None


@torch.no_grad()
def attention_maps(
    model: nn.Module, image: Tensor, tokens: Tensor, places: Sequence[slice]
) -> Tensor:
    """The weights of a head's cross-attention between words and patches, mean over its heads.

    In IRRA's encoder words attend to patches: a map is where a word looks, mean over its tokens. In
    SEN's decoder patches attend to words: a map is how much each patch looks at the word, summed
    over its tokens, mean over eight masks. Attention says where information may flow from, not what
    comes of it. Each map is scaled to a maximum of 1.

    Args:
        model: A retriever with such a head.
        image: Normalised image (3, H, W).
        tokens: Token ids (L,).
        places: Where the tokens of each word are.

    Returns:
        Maps (words, rows, columns) on the grid of patches.

    Raises:
        KeyError: If the model has no such head.
    """
    head = cross_attention_head(model)
    if head is None:
        raise KeyError(f'no head has a cross-attention; the heads are {sorted(model.heads)}')
    neck, backbone = head.neck, model.backbone
    words = backbone.encode_text(tokens[None])
    if hasattr(head, 'restore'):
        weights = _decoder_attention(head, image, words, backbone).mean(dim=0)
        maps = [weights[1:, place].sum(dim=1) for place in places]
    else:
        keys = neck.image_norm(backbone.encode_image(image[None]))
        weights = neck.cross_attention(neck.text_norm(words), keys, keys)[1][0]
        maps = [weights[place, 1:].mean(dim=0) for place in places]
    stacked = torch.stack(maps)
    stacked = stacked / stacked.amax(dim=1, keepdim=True).clamp_min(1e-12)
    return stacked.unflatten(1, backbone.spec.grid_size)


def _decoder_attention(
    head: nn.Module, image: Tensor, words: Tensor, backbone: nn.Module
) -> Tensor:
    """Weights (masks, 1 + N, L) of the decoder's cross-attention."""
    seen: dict[str, Tensor] = {}
    handles = [
        getattr(head.neck, name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output})
        )
        for name in ('query_norm', 'text_norm')
    ]
    generator = torch.Generator().manual_seed(0)
    count = backbone.spec.num_patches
    order = torch.rand(NUM_MASKS, count, generator=generator).argsort(dim=1).to(image.device)
    try:
        images = image.expand(NUM_MASKS, -1, -1, -1)
        head.restore(images, words.expand(NUM_MASKS, -1, -1), order, backbone)
    finally:
        for handle in handles:
            handle.remove()
    keys = seen['text_norm']
    return head.neck.cross_attention(seen['query_norm'], keys, keys)[1]


def _starts(size: int, window: int) -> list[int]:
    """Where windows begin, evenly from the first pixel to the last, overlapping by half."""
    count = 2 * (size // window) - 1
    return torch.linspace(0, size - window, count).round().int().tolist()
