"""Head of the losses that share a learnt scale of the cosines."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sen_toolbox.checks import checked_positive
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import gather, widened
from sen_toolbox.models.heads.pairs import gathered_pairs
from sen_toolbox.models.heads.views import take_view
from sen_toolbox.registry import HEADS, LOSSES


@HEADS.register_module()
class ScaledMatchingHead(nn.Module):
    """Adds up losses of the pairs of all ranks that share a scale.

    A loss is ``loss(image_embedding, text_embedding, labels, scale)``.

    The value of the learnt scale has a limit, its gradient has none, as in the TBPS-CLIP release:
    at the limit, where CLIP's pretraining ends, a clamped gradient would hold it forever.

    Args:
        losses: Config of a loss by its name.
        weights: Weight of each loss, by the same names.
        initial_scale: Scale before training, above 0. CLIP's trained value is 100.
        max_scale: Limit of the scale, above 0. 100 for CLIP and in the release.
        views: Index in ``batch['views']`` (B, V, 3, H, W) by the name of a loss; that loss is the
            mean over the image and this further view of it (multi-view supervision).
        spec: Sizes of the backbone; unused, as every embedding width fits.

    Raises:
        KeyError: If ``weights`` or ``views`` name other losses.
        ValueError: If a scale is not above 0.
    """

    def __init__(
        self,
        *,
        losses: dict,
        weights: Mapping[str, float],
        initial_scale: float = 100.0,
        max_scale: float = 100.0,
        views: Mapping[str, int] | None = None,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        self.views = dict(views or {})
        if set(losses) != set(weights) or not set(self.views) <= set(losses):
            raise KeyError(
                f'weights must name all losses and views some: got losses {sorted(losses)}, '
                f'weights {sorted(weights)}, views {sorted(self.views)}'
            )
        self.losses = nn.ModuleDict({name: LOSSES.build(cfg) for name, cfg in losses.items()})
        self.weights = dict(weights)
        self.max_scale = checked_positive('max_scale', max_scale)
        initial_scale = checked_positive('initial_scale', initial_scale)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(initial_scale)))

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, each loss without its weight by its name, and ``scale``.

        All are computed in at least float32 whatever the autocast mode.
        """
        views = {
            name: backbone.encode_image(take_view(batch, index)).embedding
            for name, index in self.views.items()
        }
        with torch.autocast(pair.text.embedding.device.type, enabled=False):
            images, texts, labels = gathered_pairs(pair, batch)
            scale = self.scale()
            values = {
                name: loss(images, texts, labels, scale) for name, loss in self.losses.items()
            }
            for name, view in views.items():
                view = gather(widened(pair.of_texts(view)))
                values[name] = (values[name] + self.losses[name](view, texts, labels, scale)) / 2
            total = sum(self.weights[name] * value for name, value in values.items())
        return dict(loss=total, scale=scale, **values)

    def scale(self) -> Tensor:
        """The factor of the cosines, a scalar."""
        scale = self.logit_scale.exp()
        return scale + (scale.clamp(max=self.max_scale) - scale).detach()
