"""A small ResNet over words that ends in a branch for each part of the body."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.batch_norm import GlobalBatchNorm
from sen_toolbox.models.features import PairSpec
from sen_toolbox.registry import NECKS


class RepeatedBatchNorm(GlobalBatchNorm):
    """A batch norm that counts what it sees as if it saw it several times over.

    Args:
        channels: Number of channels.
        times: How often each batch counts in the running statistics.
    """

    def __init__(self, channels: int, times: int) -> None:
        super().__init__(channels)
        self.times = times
        self.momentum = 1 - (1 - self.momentum) ** times

    def forward(self, x: Tensor) -> Tensor:
        """Normalises maps (B, C, L)."""
        if self.training:
            self.num_batches_tracked += self.times - 1
        return super().forward(x)


class Bottleneck(nn.Module):
    """Three convolutions over words, added to their input or to what stands for it.

    Args:
        channels: Channels that come in.
        middle: Channels of the second convolution, which sees three words.
        wide: Channels that come out.
    """

    def __init__(self, channels: int, middle: int, wide: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(channels, middle, kernel_size=1, bias=False)
        self.bn1 = GlobalBatchNorm(middle)
        self.conv2 = nn.Conv1d(middle, middle, kernel_size=3, padding=1, bias=False)
        self.bn2 = GlobalBatchNorm(middle)
        self.conv3 = nn.Conv1d(middle, wide, kernel_size=1, bias=False)
        self.bn3 = GlobalBatchNorm(wide)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Returns (B, wide, L) of x (B, channels, L) and its shortcut (B, wide, L)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + shortcut)


@NECKS.register_module()
class TextResNet(nn.Module):
    """Maxima over words of a first layer and of a branch for each part.

    The padding behind a caption is read like words, so rows must keep their length.

    Args:
        spec: Sizes of the backbone; the levels are as wide as the maps that they are compared with.
        low_stage: Map of the first level.
        high_stage: Map of the parts.
        parts: Number K of branches.
        blocks: Blocks of a branch.
        middle: Channels between the convolutions of a block.

    Raises:
        ValueError: If the text encoder lets rows be cut.
    """

    def __init__(
        self,
        *,
        spec: PairSpec,
        low_stage: str,
        high_stage: str,
        parts: int,
        blocks: int,
        middle: int,
    ) -> None:
        super().__init__()
        if spec.text.cuts_padding:
            raise ValueError(
                'TextResNet reads padding like words: set cuts_padding=False of the text encoder'
            )
        low, high = (spec.image.stages[name][0] for name in (low_stage, high_stage))
        self.conv1 = nn.Conv1d(spec.text.width, low, kernel_size=1, bias=False)
        self.bn1 = GlobalBatchNorm(low)
        # One for all branches, and computed once. In the release each branch runs it.
        self.downsample = nn.Sequential(
            nn.Conv1d(low, high, kernel_size=1, bias=False), RepeatedBatchNorm(high, parts)
        )
        self.branches = nn.ModuleList(
            nn.ModuleList(
                Bottleneck(high if number else low, middle, high) for number in range(blocks)
            )
            for _ in range(parts)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """The first level (T, C) and the parts (T, K, D) of all words (T, L, W) of captions."""
        x = F.relu(self.bn1(self.conv1(words.transpose(1, 2))))
        first_shortcut = self.downsample(x)
        parts = []
        for branch in self.branches:
            y, shortcut = x, first_shortcut
            for block in branch:
                y = shortcut = block(y, shortcut)
            parts.append(y.amax(dim=2))
        return x.amax(dim=2), torch.stack(parts, dim=1)
