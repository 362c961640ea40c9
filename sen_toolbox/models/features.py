"""What the parts of a model exchange: sizes of a backbone and features of a batch of pairs."""

from dataclasses import dataclass, fields

from torch import Tensor


@dataclass(frozen=True)
class BackboneSpec:
    """Sizes of a backbone, so that no config repeats them.

    Attributes:
        embed_dim: Width D of the joint embedding space.
        image_size: Input image as (rows, columns), in pixels.
        patch_size: Side of a square image patch, in pixels.
        grid_size: Patches as (rows, columns).
        stride: Step between patches, in pixels; less than ``patch_size`` where they overlap.
        vocab_size: Number of token ids.
        context_length: Longest caption, in tokens.
    """

    embed_dim: int
    image_size: tuple[int, int]
    patch_size: int
    grid_size: tuple[int, int]
    stride: int
    vocab_size: int
    context_length: int

    @property
    def num_patches(self) -> int:
        """Number N of image patches."""
        return self.grid_size[0] * self.grid_size[1]


@dataclass
class PairFeatures:
    """Features of B (image, caption) pairs, projected to the joint space and not normalised.

    A backbone fills ``image``, ``text`` and what it was asked to; the others may be None. So is all
    of a modality that it was not given.

    Attributes:
        image: Global image embedding, (B, D).
        text: Global text embedding, (B, D).
        image_tokens: Class token and N patches, (B, 1 + N, D).
        text_tokens: All L tokens, padding included, (B, L, D).
        image_attention: Attention of the class token to the N patches in the last block, mean over
            heads, without gradient, (B, N).
        text_attention: Attention of the end token to all L tokens, likewise, (B, L).
    """

    image: Tensor
    text: Tensor
    image_tokens: Tensor | None = None
    text_tokens: Tensor | None = None
    image_attention: Tensor | None = None
    text_attention: Tensor | None = None


GLOBAL_FEATURES = frozenset({'image', 'text'})
ALL_FEATURES = frozenset(field.name for field in fields(PairFeatures))
