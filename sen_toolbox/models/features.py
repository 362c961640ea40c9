"""What the parts of a model exchange: sizes of encoders and features of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class ImageSpec:
    """Sizes of an image encoder, so that no config repeats them.

    Attributes:
        width: Width W of its embedding and of its tokens.
        image_size: Input image as (rows, columns), in pixels.
        grid: Patches as (rows, columns); None if it gives no tokens.
        patch_size: Side of a square patch, in pixels; None if it gives no tokens.
        patch_stride: Step between patches, in pixels; less than ``patch_size`` where they overlap.
        takes_some_patches: Whether it can encode some of the patches alone (``keep``).
        stages: Shape (C, h, w) of each feature map that it can give, by name.
    """

    width: int
    image_size: tuple[int, int]
    grid: tuple[int, int] | None = None
    patch_size: int | None = None
    patch_stride: int | None = None
    takes_some_patches: bool = False
    stages: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def num_patches(self) -> int:
        """Number N of patches; 0 without tokens."""
        return self.grid[0] * self.grid[1] if self.grid else 0

    def patches(self) -> tuple[tuple[int, int], int]:
        """The grid (rows, columns) of its patches, and the side of one, in pixels.

        Raises:
            ValueError: If it gives no tokens.
        """
        if self.grid is None or self.patch_size is None:
            raise ValueError('the image encoder gives no tokens, so that it has no patches')
        return self.grid, self.patch_size


@dataclass(frozen=True)
class TextSpec:
    """Sizes of a text encoder.

    Attributes:
        width: Width W of its embedding and of its tokens.
        vocab_size: Number of token ids.
        context_length: Longest caption, in tokens.
        cuts_padding: Whether rows may be cut behind their last real token without a change of its
            features. Where not, everybody leaves the length of rows as the tokenizer made it.
    """

    width: int
    vocab_size: int
    context_length: int
    cuts_padding: bool = True


@dataclass(frozen=True)
class PairSpec:
    """Sizes of a backbone.

    Attributes:
        embed_dim: Width D of the joint embedding space; None if there is none.
        image: Sizes of the image encoder.
        text: Sizes of the text encoder.
    """

    embed_dim: int | None
    image: ImageSpec
    text: TextSpec


@dataclass
class ImageFeatures:
    """Features of B images, not normalised; what was not asked for may be None or missing.

    Attributes:
        embedding: Global embedding (B, D).
        tokens: Class token and N patches (B, 1 + N, W), or those asked for by ``keep``.
        attention: Attention of the class token to the N patches in the last block, mean over
            heads, without gradient, (B, N).
        stages: Feature maps (B, C, h, w) by name.
        extra: What no other field has a place for, by name.
    """

    embedding: Tensor
    tokens: Tensor | None = None
    attention: Tensor | None = None
    stages: Mapping[str, Tensor] = field(default_factory=dict)
    extra: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class TextFeatures:
    """Features of T captions of L tokens, not normalised.

    Attributes:
        embedding: Global embedding (T, D).
        tokens: All tokens (T, L, W), padding included.
        mask: True (T, L) on real tokens.
        end: Column (T,) of the token that stands for the caption.
        attention: Attention of that token to all tokens in the last block, mean over heads,
            without gradient, (T, L).
        extra: What no other field has a place for, by name.
    """

    embedding: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None
    end: Tensor | None = None
    attention: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class PairFeatures:
    """Features of a batch of B images and T captions.

    Attributes:
        image: Features of the images; None if none were given.
        text: Features of the captions; None if none were given.
        image_of: Image row (T,) of each caption; None where caption i belongs to image i.
    """

    image: ImageFeatures | None
    text: TextFeatures | None
    image_of: Tensor | None = None

    def of_texts(self, rows: Tensor) -> Tensor:
        """What belongs to the image of each caption: (T, ...) of rows (B, ...) by image."""
        return rows if self.image_of is None else rows.index_select(0, self.image_of)


# Always there; nobody has to name them.
EMBEDDINGS = frozenset({'image.embedding', 'text.embedding'})
# What any backbone provides, whatever its encoders say that they do.
ALWAYS_PROVIDED = EMBEDDINGS | {'text.mask', 'text.end'}


def reads_of(reads: frozenset[str], modality: str) -> frozenset[str]:
    """The names under one modality, without it.

    >>> sorted(reads_of(frozenset({'image.tokens', 'text.mask'}), 'image'))
    ['tokens']
    """
    prefix = f'{modality}.'
    return frozenset(name.removeprefix(prefix) for name in reads if name.startswith(prefix))
