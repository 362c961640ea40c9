"""The blocks of a ResNet and stages of them; names of parameters are torchvision's.

Not torchvision's own blocks: to import that library takes half as long as to import torch, and the
model that a search loads has such blocks.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.batch_norm import GlobalBatchNorm


class BasicBlock(nn.Module):
    """Two convolutions of 3 x 3, added to their input; He et al., CVPR 2016, figure 5, left.

    Args:
        channels: Those of the map (B, C, H, W) that comes in.
        width: Those of its convolutions.
        stride: Step of the first.
    """

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = GlobalBatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = GlobalBatchNorm(width)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The map (B, ``width``, H / ``stride``, W / ``stride``), sides rounded up."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Bottleneck(nn.Module):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1, added to their input; there, right.

    The second has the step, as in torchvision.

    Args:
        channels: Those of the map (B, C, H, W) that comes in.
        width: Those of the first two convolutions; the last has four times as many.
        stride: Step of the second.
    """

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        wide = width * self.expansion
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = GlobalBatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = GlobalBatchNorm(width)
        self.conv3 = nn.Conv2d(width, wide, 1, bias=False)
        self.bn3 = GlobalBatchNorm(wide)
        self.downsample = _shortcut(channels, wide, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The map (B, 4 ``width``, H / ``stride``, W / ``stride``), sides rounded up."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


def _shortcut(channels: int, wide: int, stride: int) -> nn.Sequential | None:
    """Brings the input of a block to the shape of its output; None where it has that."""
    if stride == 1 and channels == wide:
        return None
    convolution = nn.Conv2d(channels, wide, 1, stride, bias=False)
    return nn.Sequential(convolution, GlobalBatchNorm(wide))


def stage_of_blocks(
    block: type[BasicBlock | Bottleneck], channels: int, width: int, count: int, stride: int
) -> nn.Sequential:
    """A stage of a ResNet.

    Args:
        block: Kind of its blocks.
        channels: Those of the map that comes in.
        width: Those of the blocks, before their expansion.
        count: Number of blocks.
        stride: Step of the first.
    """
    rest = [block(width * block.expansion, width) for _ in range(count - 1)]
    return nn.Sequential(block(channels, width, stride), *rest)


def start_convolutions(part: nn.Module) -> None:
    """Draws the weights of all convolutions as those of a ResNet begin."""
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
