"""Self-supervision of the image tower by two views of an image."""

import torch
from torch import nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import gather_all, widened
from sen_toolbox.models.heads.views import take_view
from sen_toolbox.registry import HEADS, LOSSES


@HEADS.register_module()
class SelfSupervisionHead(nn.Module):
    """Projects two further views of each image and applies ``loss(first, second)`` over all ranks.

    SLIP, arXiv:2112.12750, and the SS of TBPS-CLIP, arXiv:2308.10045.

    Args:
        loss: Config of the loss.
        views: Indices of the two views in ``batch['views']`` (B, V, 3, H, W).
        hidden_dim: Width between the two layers of the projection; the last has the width of the
            joint space. The TBPS-CLIP release takes 128.
        spec: Sizes of the backbone.
    """

    def __init__(
        self,
        *,
        loss: dict,
        views: tuple[int, int] = (0, 1),
        hidden_dim: int = 128,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        self.first, self.second = views
        self.projection = nn.Sequential(
            nn.Linear(spec.embed_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, spec.embed_dim)
        )
        self.loss = LOSSES.build(loss)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, computed in at least float32 whatever the autocast mode."""
        views = torch.cat([take_view(batch, self.first), take_view(batch, self.second)])
        first, second = self.projection(backbone.encode_image(views).embedding).chunk(2)
        with torch.autocast(first.device.type, enabled=False):
            return dict(loss=self.loss(*gather_all(widened(first), widened(second))))
