"""Text-guided image restoration, the auxiliary task of SEN."""

import torch
from torch import Tensor, nn

from sen_toolbox.models.features import BackboneSpec, PairFeatures
from sen_toolbox.registry import HEADS, LOSSES, NECKS

# ITU-R 601 luma as the release rounds it; the weights sum to 0.9999.
GREY_WEIGHTS = (0.2989, 0.5870, 0.1140)


@HEADS.register_module()
class RestorationHead(nn.Module):
    """Encodes a few grey patches and predicts the colours of the hidden ones from the caption.

    SEN, text-guided image restoration. As released: the input of the second image pass is the grey
    version of the normalised image, the target the normalised colours; ``mask_ratio`` applies to
    the sequence with its class token, and of the hidden patches one per image is left unscored (at
    ratio 0.7 and 192 patches: 56 visible, 136 hidden, 135 scored).

    Args:
        neck: Config of the decoder ``(image_tokens, text_tokens, rank, wanted) -> pixels
            (B, S, P)`` of the wanted patches.
        loss: Config of the loss ``(predicted, target) -> scalar`` of pixels (B, S, P).
        mask_ratio: Share of the sequence that is hidden, in 0..1 (exclusive).
        spec: Sizes of the backbone.

    Raises:
        ValueError: If the ratio leaves no visible or no scored patch, or if patches overlap.
    """

    reads = frozenset({'text_tokens'})

    def __init__(self, *, neck: dict, loss: dict, mask_ratio: float, spec: BackboneSpec) -> None:
        super().__init__()
        if spec.stride != spec.patch_size:
            raise ValueError(
                f'restoration needs patches that do not overlap, got stride {spec.stride} for '
                f'patches of {spec.patch_size} pixels'
            )
        self.patch_size = spec.patch_size
        self.grid_size = spec.grid_size
        # The class token counts as one of the kept.
        self.num_kept = int((spec.num_patches + 1) * (1 - mask_ratio))
        if not 2 <= self.num_kept < spec.num_patches:
            raise ValueError(
                f'mask_ratio {mask_ratio} on {spec.num_patches} patches leaves '
                f'{self.num_kept - 1} visible and {spec.num_patches - self.num_kept} scored; '
                f'both must be at least 1'
            )
        self.neck = NECKS.build({**neck, 'spec': spec})
        self.loss = LOSSES.build(loss)

    def forward(self, feats: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` of restoring ``batch['images']`` with the captions' text tokens."""
        images = batch['images']
        order = self.draw_noise(len(images), images.device).argsort(dim=1)
        scored = order[:, self.num_kept :]
        predicted, _ = self.restore(images, feats.text_tokens, order, backbone, scored)
        target = self.to_patches(images)
        target = target.gather(1, scored[..., None].expand(-1, -1, target.shape[-1]))
        return dict(loss=self.loss(predicted, target))

    def draw_noise(self, batch_size: int, device: torch.device) -> Tensor:
        """Uniform noise (B, N); the patches with the lowest stay visible."""
        rows, columns = self.grid_size
        return torch.rand(batch_size, rows * columns, device=device)

    def restore(
        self,
        images: Tensor,
        text_tokens: Tensor,
        order: Tensor,
        backbone: nn.Module,
        wanted: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predicts patches from the first visible ones of ``order`` and the caption.

        Args:
            images: Normalised images (B, 3, H, W).
            text_tokens: Text tokens (B, L, D) that guide the restoration.
            order: Permutation (B, N) of patch indices; the first ``num_kept - 1`` are visible.
            backbone: Encodes the visible grey patches.
            wanted: Indices (B, S) of the patches to predict; None for all N.

        Returns:
            Predicted pixels (B, S, P) and the rank (B, N) of each patch in ``order``.
        """
        visible = backbone.encode_image(to_grey(images), keep=order[:, : self.num_kept - 1])
        rank = order.argsort(dim=1)
        return self.neck(visible, text_tokens, rank, wanted), rank

    def to_patches(self, images: Tensor) -> Tensor:
        """Cuts images (B, 3, H, W) into patches (B, N, P), pixels row by row, channels last.

        Pixels beyond the last whole patch are left out, as the patch embedding leaves them.
        """
        (rows, columns), size = self.grid_size, self.patch_size
        images = images[:, :, : rows * size, : columns * size]
        cut = images.unflatten(3, (columns, size)).unflatten(2, (rows, size))
        return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def to_images(self, patches: Tensor) -> Tensor:
        """Inverse of :meth:`to_patches`: (B, N, P) to (B, 3, rows * size, columns * size)."""
        (rows, columns), size = self.grid_size, self.patch_size
        cut = patches.unflatten(2, (size, size, 3)).unflatten(1, (rows, columns))
        return cut.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def to_grey(images: Tensor) -> Tensor:
    """Grey version of images (B, 3, H, W), repeated in three equal channels."""
    weights = images.new_tensor(GREY_WEIGHTS).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True).expand_as(images)
