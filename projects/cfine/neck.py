"""A whole and two groups of the tokens that it attends to."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.cfine.block import FirstTokenBlock
from sen_toolbox.models.batch_norm import GlobalBatchNorm
from sen_toolbox.models.features import ImageFeatures, PairSpec, TextFeatures
from sen_toolbox.registry import NECKS


@dataclass
class Groups:
    """What the losses read of images or captions.

    Attributes:
        features: The whole and what it becomes with each group, normed, (B, 3, W).
        whole: The first token (B, W).
        chosen: The tokens of both groups, the most attended first, (B, 2 K, W).
    """

    features: Tensor
    whole: Tensor
    chosen: Tensor


@NECKS.register_module()
class TokenGroups(nn.Module):
    """The first token as it is and behind a block with each of two groups of tokens.

    The first group are the K tokens to which it attends most in the last block, the second the next
    K. The block is that of both modalities; each has a norm, which all three features share and
    whose bias stays 0. Captions have padding in their groups where they are short, in the order of
    their row, so rows must keep their length.

    Args:
        spec: Sizes of the backbone, whose tokens have one width.
        image_share: K of images, as a share of all tokens, in 0..1; at least 1.
        text_share: K of captions, as a share of a row.
        head_width: Width of a head of the block.
        attention_dropout: Share of BERT's attention weights that training drops before tokens are
            chosen.

    Raises:
        ValueError: If tokens differ in width, there are too few for two groups, or the text encoder
            lets rows be cut.
    """

    reads = frozenset(
        {'image.tokens', 'image.attention', 'text.tokens', 'text.extra.head_attention'}
    )

    def __init__(
        self,
        *,
        spec: PairSpec,
        image_share: float,
        text_share: float,
        head_width: int,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        self.width = spec.image.width
        if spec.text.width != self.width:
            raise ValueError(
                f'tokens of images have {self.width} numbers, of captions {spec.text.width}: one '
                'block is for both, so take encoders of one width (projected=False of a CLIP tower)'
            )
        if spec.text.cuts_padding:
            raise ValueError(
                'TokenGroups may choose padding: set cuts_padding=False of the text encoder'
            )
        patches = spec.image.num_patches
        self.image_count = max(1, int((1 + patches) * image_share))
        self.text_count = max(1, int(spec.text.context_length * text_share))
        if 2 * self.image_count > patches or 2 * self.text_count > spec.text.context_length:
            raise ValueError(
                f'two groups of {self.image_count} of {patches} patches, or of '
                f'{self.text_count} of {spec.text.context_length} tokens, are more than there '
                'are: make the shares less'
            )
        self.attention_dropout = attention_dropout
        self.block = FirstTokenBlock(self.width, self.width // head_width)
        self.image_norm, self.text_norm = (GlobalBatchNorm(self.width) for _ in range(2))
        for norm in (self.image_norm, self.text_norm):
            norm.bias.requires_grad = False

    def of_images(self, image: ImageFeatures) -> Groups:
        """Those of images."""
        chosen = most_attended(image.tokens[:, 1:], image.attention, 2 * self.image_count)
        return self._groups(image.tokens, chosen, self.image_norm, None)

    def of_captions(self, text: TextFeatures) -> Groups:
        """Those of captions."""
        weights = F.dropout(text.extra['head_attention'], self.attention_dropout, self.training)
        # The first token is last of all, as padding is, and before it by its place.
        weights = weights.mean(dim=2) * (torch.arange(weights.shape[1], device=weights.device) > 0)
        chosen = most_attended(text.tokens, weights, 2 * self.text_count)
        return self._groups(text.tokens, chosen, self.text_norm, text.mask)

    def _groups(
        self, tokens: Tensor, chosen: Tensor, norm: nn.Module, mask: Tensor | None
    ) -> Groups:
        whole = tokens[:, 0]
        wholes = [whole]
        for group in chosen.chunk(2, dim=1):
            wholes.append(self.block(torch.cat([whole[:, None], group], dim=1), tokens, mask))
        # One after the other: each has the statistics of its own.
        return Groups(torch.stack([norm(x) for x in wholes], dim=1), whole, chosen)


def most_attended(tokens: Tensor, weights: Tensor, count: int) -> Tensor:
    """The ``count`` tokens (B, count, W) of largest weight; of equal weights the earlier token.

    Args:
        tokens: (B, L, W).
        weights: (B, L).
        count: How many.
    """
    order = weights.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return tokens.gather(1, order[:, :, None].expand(-1, -1, tokens.shape[2]))
