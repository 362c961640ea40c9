"""The embedding layer of RDE: the most attended tokens, transformed and pooled."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.batch_norm import GlobalBatchNorm
from sen_toolbox.models.features import PairSpec
from sen_toolbox.registry import NECKS


@NECKS.register_module()
class TokenSelection(nn.Module):
    """Embeds the best-scored tokens by an MLP beside a linear layer and takes the maximum.

    RDE, arXiv:2308.09911, token selection embedding. As released: the chosen tokens are
    L2-normalised, batch norm stands before the MLP's activation, and where a caption has fewer
    words than are chosen, padding fills up: it takes part in the batch's statistics, not in the
    maximum.

    Args:
        ratio: Share of the tokens that are chosen, in 0..1; at least one token is. 0.3 in the
            release.
        num_tokens: Tokens there are to choose from at most.
        in_width: Width of a token.
        width: Width of the embedding. 1024 in the release.
        spec: Sizes of the backbone; unused.

    Raises:
        ValueError: If ``ratio`` is not in 0..1 (0 exclusive).
    """

    def __init__(
        self,
        *,
        ratio: float = 0.3,
        num_tokens: int,
        in_width: int,
        width: int = 1024,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        if not 0 < ratio <= 1:
            raise ValueError(f'ratio is a share above 0 and up to 1, got {ratio}')
        self.num_chosen = max(1, int(num_tokens * ratio))
        self.skip = nn.Linear(in_width, width)
        # The norm takes any bias away again.
        self.hidden = nn.Linear(in_width, width // 2, bias=False)
        self.norm = GlobalBatchNorm(width // 2)
        self.output = nn.Linear(width // 2, width)

    def forward(self, tokens: Tensor, score: Tensor, count: Tensor) -> Tensor:
        """Returns embeddings (B, width), not normalised.

        Args:
            tokens: Tokens (B, L, D) of a backbone.
            score: Score (B, L); those to choose from have the highest scores; of equal scores the
                earlier token counts as the higher.
            count: How many (B,) of the tokens are to choose from; 0 is taken as 1.
        """
        # A stable order: topk breaks ties as the device likes.
        order = score.sort(dim=1, descending=True, stable=True).indices
        position = torch.arange(self.num_chosen, device=score.device)
        # Not a slice, which beyond the end would fix the length of captions of an exported model.
        # Where there are fewer tokens, the last is taken again, as surplus.
        chosen = order.index_select(1, position.clamp(max=order.shape[1] - 1))
        x = tokens.gather(1, chosen[..., None].expand(-1, -1, tokens.shape[-1]))
        x = F.normalize(x, dim=-1)
        hidden = self.norm(self.hidden(x).flatten(0, 1)).unflatten(0, x.shape[:2])
        x = self.output(F.relu(hidden)) + self.skip(x)
        surplus = position >= count.clamp_min(1)[:, None]
        return x.masked_fill(surplus[..., None], -torch.inf).max(dim=1).values
