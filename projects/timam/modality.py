"""A discriminator of modalities that the encoders are to fool."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sen_toolbox.checks import checked_share
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.registry import HEADS


@HEADS.register_module()
class ModalityHead(nn.Module):
    r"""Tells images from captions by two layers, while the encoders learn the opposite.

    TIMAM, arXiv:1908.10534: the discriminator :math:`D` minimises
    :math:`-E[\log D(x)] - E[\log(1 - D(z))]` over image embeddings :math:`x` and text embeddings
    :math:`z`; the encoders maximise it. Both happen in one backward pass, in which the gradient of
    the embeddings is reversed.

    Args:
        hidden_dim: Width between its two layers.
        slope: Slope of its leaky ReLU below 0, in 0..1.
        smoothing: What the targets of images lack to 1, in 0..1.
        strength: Factor of the reversed gradient.
        alternates: Whether one optimiser step is the discriminator's and the next the encoders';
            whose turn it is not has a gradient of 0 from here. Else every step is both's.
        spec: Sizes of the backbone.

    Raises:
        ValueError: If ``slope`` or ``smoothing`` is not in 0..1.
    """

    def __init__(
        self,
        *,
        hidden_dim: int = 512,
        slope: float = 0.2,
        smoothing: float = 0.0,
        strength: float = 1.0,
        alternates: bool = False,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        self.smoothing = checked_share('smoothing', smoothing)
        self.strength, self.alternates = strength, alternates
        self.discriminator = nn.Sequential(
            nn.Linear(spec.embed_dim, hidden_dim),
            nn.LeakyReLU(checked_share('slope', slope)),
            nn.Linear(hidden_dim, 1),
        )
        # 1 in a step of the encoders. A tensor, so that nobody waits for a device.
        self.register_buffer('turn', torch.zeros(()))

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, the discriminator's, and its accuracy ``acc``, in 0..1."""
        own, others = self.factors()
        parameters = {
            name: _Scaled.apply(value, own) for name, value in self.discriminator.named_parameters()
        }
        image, text = (
            functional_call(self.discriminator, parameters, (_Scaled.apply(embedding, others),))
            for embedding in (pair.of_texts(pair.image.embedding), pair.text.embedding)
        )
        of_images = F.binary_cross_entropy_with_logits(
            image, torch.full_like(image, 1 - self.smoothing)
        )
        of_texts = F.binary_cross_entropy_with_logits(text, torch.zeros_like(text))
        right = ((image > 0).float().mean() + (text < 0).float().mean()) / 2
        return dict(loss=of_images + of_texts, acc=right)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Factors of the gradients that reach the discriminator and the embeddings."""
        if self.alternates:
            return 1 - self.turn, -self.strength * self.turn
        whole = torch.ones_like(self.turn)
        return whole, -self.strength * whole

    def after_step(self) -> None:
        """Gives the other side its turn, if they take turns."""
        if self.alternates:
            self.turn.copy_(1 - self.turn)


class _Scaled(torch.autograd.Function):
    """A tensor whose gradient has a factor."""

    @staticmethod
    def forward(ctx, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        [factor] = ctx.saved_tensors
        return gradient * factor.to(gradient), None
