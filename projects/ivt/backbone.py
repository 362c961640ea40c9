"""One transformer for both modalities, which in training sees some of its tokens."""

import random
from dataclasses import replace

import torch
from torch import Tensor

from sen_toolbox.checks import checked_share
from sen_toolbox.models.backbones import DualEncoder
from sen_toolbox.models.features import EMBEDDINGS, ImageFeatures, TextFeatures, reads_of
from sen_toolbox.registry import BACKBONES
from sen_toolbox.text.tokens import Tokens

KEPT = frozenset({'image.extra.kept', 'text.extra.kept'})


@BACKBONES.register_module()
class SharedTransformer(DualEncoder):
    """A ``TypedViT`` whose attention and norms a ``BorrowingBERT`` takes, too.

    In training a random number of tokens, the same ones of all images, does not enter, and so of
    all captions; ``extra['kept']`` says which do, for what is to be seen alike.

    Args:
        token_dropout: The largest share of the tokens that is left out, in 0..1. Padding counts.
        **options: Those of ``DualEncoder``.

    Raises:
        ValueError: If the share is not in 0..1, or the encoders differ in width or depth.
    """

    def __init__(self, *, token_dropout: float = 0.0, **options) -> None:
        super().__init__(**options)
        self.token_dropout = checked_share('token_dropout', token_dropout)
        self.provides = self.provides | KEPT
        self.text.borrow(self.image)

    def draw_kept(self, count: int, device: torch.device) -> Tensor | None:
        """Draws which of ``count`` tokens stay, not counting the first, in their order, (K,).

        None if all do, as outside of training.
        """
        if not self.training or self.token_dropout == 0:
            return None
        most = int(self.token_dropout * (1 + count))
        dropped = random.randint(0, most)  # by Python, since the host has to know how many stay
        return torch.randperm(count, device=device)[dropped:].sort().values

    def encode_image(
        self, images: Tensor, reads: frozenset[str] = EMBEDDINGS, keep: Tensor | None = None
    ) -> ImageFeatures:
        """Features of images (B, 3, H, W), or of their patches ``keep`` (B, K) alone."""
        if keep is None:
            kept = self.draw_kept(self.spec.image.num_patches, images.device)
            keep = None if kept is None else kept.expand(len(images), -1)
        features = super().encode_image(images, reads - KEPT, keep)
        return features if keep is None else replace(features, extra=dict(kept=keep[0]))

    def encode_text(
        self, tokens: Tokens, reads: frozenset[str] = EMBEDDINGS, keep: Tensor | None = None
    ) -> TextFeatures:
        """Features of T captions, or of their tokens in columns ``keep`` (K,) and the first."""
        if keep is None:
            places = self.draw_kept(tokens.ids.shape[1] - 1, tokens.ids.device)
            keep = None if places is None else places + 1
        features = self.text(tokens, reads_of(reads - KEPT, 'text'), keep)
        return features if keep is None else replace(features, extra=dict(kept=keep))
