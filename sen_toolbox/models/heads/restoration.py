"""Text-guided image restoration, the auxiliary task of SEN."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.registry import HEADS, LOSSES, NECKS, RESTORATION_TARGETS
from sen_toolbox.text.tokens import Tokens

from .restoration_targets import cut_patches

# ITU-R 601 luma as the release rounds it; the weights sum to 0.9999.
GREY_WEIGHTS = (0.2989, 0.5870, 0.1140)
# Grey of a hidden patch on a board, in 0..255.
HIDDEN_LEVEL = 128
# Masks over which attention is averaged.
NUM_MASKS = 8
# The only features that guide a restoration.
WORDS = frozenset({'text.tokens'})
PIXELS = MappingProxyType(dict(type='PixelTarget'))


@HEADS.register_module()
class RestorationHead(nn.Module):
    """Encodes a few grey patches and predicts the colours of the hidden ones from the caption.

    SEN, text-guided image restoration. As released: the input of the second image pass is the grey
    version of the normalised image, the target the normalised colours of all pixels; ``mask_ratio``
    applies to the sequence with its class token, and of the hidden patches one per image is left
    unscored (at ratio 0.7 and 192 patches: 56 visible, 136 hidden, 135 scored).

    Args:
        neck: Config of the decoder ``(image_tokens, text_tokens, rank, wanted) -> values
            (B, S, V)`` of the wanted patches; it is built with ``num_values``, V.
        loss: Config of the loss ``(predicted, target) -> scalar`` of values (B, S, V).
        mask_ratio: Share of the sequence that is hidden, in 0..1 (exclusive).
        target: Config of what is predicted (RESTORATION_TARGETS). There is no board of one that
            cannot be painted.
        spec: Sizes of the backbone.

    Raises:
        ValueError: If the ratio leaves no visible or no scored patch, if patches overlap, or if
            the image encoder cannot encode some of them alone.
    """

    def __init__(
        self,
        *,
        neck: dict,
        loss: dict,
        mask_ratio: float,
        target: Mapping = PIXELS,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        if not spec.image.takes_some_patches:
            raise ValueError(
                'restoration needs an image encoder that encodes some patches alone, such as '
                'CLIPVisionTransformer'
            )
        self.grid, self.patch_size = spec.image.patches()
        if spec.image.patch_stride != self.patch_size:
            raise ValueError(
                f'restoration needs patches that do not overlap, got stride '
                f'{spec.image.patch_stride} for patches of {self.patch_size} pixels'
            )
        self.image = spec.image
        self.num_patches = spec.image.num_patches
        # The class token counts as one of the kept.
        self.num_kept = int((self.num_patches + 1) * (1 - mask_ratio))
        if not 2 <= self.num_kept < self.num_patches:
            raise ValueError(
                f'mask_ratio {mask_ratio} on {self.num_patches} patches leaves '
                f'{self.num_kept - 1} visible and {self.num_patches - self.num_kept} scored; '
                f'both must be at least 1'
            )
        self.target = RESTORATION_TARGETS.build({**target, 'spec': spec})
        if not hasattr(self.target, 'paint'):
            self.illustrate = None
        self.reads = WORDS | self.target.reads
        self.neck = NECKS.build({**neck, 'num_values': self.target.num_values, 'spec': spec})
        self.loss = LOSSES.build(loss)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` of restoring ``batch['images']`` with the captions' text tokens."""
        images = pair.of_texts(batch['images'])
        order = self.draw_noise(len(images), images.device).argsort(dim=1)
        scored = order[:, self.num_kept :]
        predicted = self.restore(images, pair.text.tokens, order, backbone, scored)
        target = self.target(pair, images)
        target = target.gather(1, scored[..., None].expand(-1, -1, target.shape[-1]))
        return dict(loss=self.loss(predicted, target))

    def draw_noise(self, batch_size: int, device: torch.device) -> Tensor:
        """Uniform noise (B, N); the patches with the lowest stay visible."""
        return torch.rand(batch_size, self.num_patches, device=device)

    def restore(
        self,
        images: Tensor,
        text_tokens: Tensor,
        order: Tensor,
        backbone: nn.Module,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Predicts patches from the first visible ones of ``order`` and the caption.

        Args:
            images: Normalised images (B, 3, H, W).
            text_tokens: Text tokens (B, L, D) that guide the restoration.
            order: Permutation (B, N) of patch indices; the first ``num_kept - 1`` are visible.
            backbone: Encodes the visible grey patches.
            wanted: Indices (B, S) of the patches to predict; None for all N.

        Returns:
            Predicted values (B, S, V), of pixels (B, S, P) where these are the target.
        """
        visible = self._visible_tokens(images, order, backbone)
        return self.neck(visible, text_tokens, order.argsort(dim=1), wanted)

    def _visible_tokens(self, images: Tensor, order: Tensor, backbone: nn.Module) -> Tensor:
        keep = order[:, : self.num_kept - 1]
        return backbone.encode_image(to_grey(images), frozenset({'image.tokens'}), keep).tokens

    @torch.no_grad()
    def illustrate(
        self,
        images: Tensor,
        tokens: Tokens,
        backbone: nn.Module,
        *,
        to_pixels: Callable[[Tensor], Tensor],
        seed: int = 0,
    ) -> dict[str, Tensor]:
        """What the head sees of images and what it paints by their captions.

        Patches that it sees keep their colours in the restoration, as it is neither asked nor
        trained to paint them. No generator of random numbers is touched.

        Args:
            images: Normalised images (B, 3, H, W).
            tokens: One caption for each image.
            backbone: The backbone.
            to_pixels: Inverse of the normalisation, to 0..255.
            seed: Decides which patches are hidden.

        Returns:
            Images (B, 3, rows, columns) in 0..255 by the title of their column.
        """
        order = self._drawn_order(len(images), seed, images.device)
        visible = (order.argsort(dim=1) < self.num_kept - 1)[..., None]
        original = self.to_patches(to_pixels(images))
        grey = self.to_patches(to_pixels(images).mean(dim=1, keepdim=True).expand_as(images))
        words = backbone.encode_text(tokens, WORDS).tokens
        predicted = self.restore(images, words, order, backbone)
        painted = self.to_images(self.target.paint(predicted))
        painted = self.to_patches(to_pixels(painted))
        columns = {
            'original': original,
            'masked input': torch.where(visible, grey, torch.full_like(grey, HIDDEN_LEVEL)),
            'restored': torch.where(visible, original, painted),
        }
        return {title: self.to_images(patches) for title, patches in columns.items()}

    @torch.no_grad()
    def word_attention(self, images: Tensor, tokens: Tokens, backbone: nn.Module) -> Tensor | None:
        """How much each patch looks at each token, (B, L, N), mean over eight masks.

        None where the decoder looks at no words.
        """
        if not self.neck.reads_words:
            return None
        words = backbone.encode_text(tokens, WORDS).tokens
        total = images.new_zeros(())
        for seed in range(NUM_MASKS):
            order = self._drawn_order(len(images), seed, images.device)
            visible = self._visible_tokens(images, order, backbone)
            total = total + self.neck.attention(visible, words, order.argsort(dim=1))
        return total[:, 1:].transpose(1, 2) / NUM_MASKS

    def _drawn_order(self, count: int, seed: int, device: torch.device) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(count, self.num_patches, generator=generator).argsort(dim=1).to(device)

    def to_patches(self, images: Tensor) -> Tensor:
        """Patches (B, N, P) of images (B, 3, H, W), pixels row by row, channels last."""
        return cut_patches(images, self.image)

    def to_images(self, patches: Tensor) -> Tensor:
        """Inverse of :meth:`to_patches`: (B, N, P) to (B, 3, rows * size, columns * size)."""
        (rows, columns), size = self.grid, self.patch_size
        cut = patches.unflatten(2, (size, size, 3)).unflatten(1, (rows, columns))
        return cut.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def to_grey(images: Tensor) -> Tensor:
    """Grey version of images (B, 3, H, W), repeated in three equal channels."""
    weights = images.new_tensor(GREY_WEIGHTS).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True).expand_as(images)
