"""ResNet as torchvision has it, without its classifier."""

from collections.abc import Mapping

from torch import Tensor, nn

from sen_toolbox.models.batch_norm import GlobalBatchNorm
from sen_toolbox.models.features import ImageFeatures, ImageSpec
from sen_toolbox.models.image_encoders.residual import (
    BasicBlock,
    Bottleneck,
    stage_of_blocks,
    start_convolutions,
)
from sen_toolbox.models.parts import stripe_maxima
from sen_toolbox.models.pretrained import load_pretrained
from sen_toolbox.models.requests import check_image_request
from sen_toolbox.registry import IMAGE_ENCODERS

BLOCKS = {'basic': BasicBlock, 'bottleneck': Bottleneck}
# Kind and number of the blocks of each stage; He et al., CVPR 2016, table 1. 10 trains on a CPU.
DEPTHS = {
    10: ('basic', (1, 1, 1, 1)),
    18: ('basic', (2, 2, 2, 2)),
    34: ('basic', (3, 4, 6, 3)),
    50: ('bottleneck', (3, 4, 6, 3)),
    101: ('bottleneck', (3, 4, 23, 3)),
    152: ('bottleneck', (3, 8, 36, 3)),
}
WIDTHS = (64, 128, 256, 512)
STAGES = ('layer1', 'layer2', 'layer3', 'layer4')
COUNTER = 'num_batches_tracked'
WANTED = "torchvision's ImageNet weights of this ResNet (such as resnet50-0676ba61.pth)"


@IMAGE_ENCODERS.register_module()
class ResNet(nn.Module):
    """The embedding is pooled from the last feature map; names of parameters are torchvision's.

    Batch norm has the statistics of the batch of all processes.

    Args:
        depth: Layers: 10, 18, 34, 50, 101 or 152. A dict describes another ResNet by ``block``
            ('basic' or 'bottleneck'), ``blocks`` and ``widths``, four each, and ``stem``, the
            channels before the first stage (64 if missing).
        image_size: Input image as (rows, columns), in pixels.
        last_stage: The stage behind which it ends, 'layer1' to 'layer4'.
        last_stride: Step of layer4, 1 or 2. Many methods of person retrieval take 1, for a
            map of twice the rows and columns.
        stripes: Number of horizontal stripes of the map whose maxima, side by side, are the
            embedding, so that it tells places apart. None for the mean over the whole map, as
            in torchvision.
        pretrained: Weights loaded before training: torchvision's file, or a checkpoint of this
            toolbox with this encoder. None for random weights.

    Raises:
        ValueError: If there is no ResNet of this depth, no such stride, or more stripes than rows.
    """

    def __init__(
        self,
        *,
        depth: int | dict,
        image_size: tuple[int, int],
        last_stage: str = 'layer4',
        last_stride: int = 2,
        stripes: int | None = None,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        block, blocks, widths, stem = _sizes(depth)
        if last_stage not in STAGES:
            raise ValueError(f'last_stage is one of {list(STAGES)}, got {last_stage!r}')
        if last_stride not in (1, 2):
            raise ValueError(f'last_stride is 1 or 2, got {last_stride}')
        self.pretrained = pretrained
        self.conv1 = nn.Conv2d(3, stem, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = GlobalBatchNorm(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        rows, columns = image_size
        # Every step of 2 rounds an odd side up.
        shape = tuple(-(-side // 4) for side in (rows, columns))
        channels, shapes = stem, {}
        strides = (1, 2, 2, last_stride)
        self.stages = STAGES[: STAGES.index(last_stage) + 1]
        self.provides = frozenset(f'stages.{name}' for name in self.stages)
        for name, count, width, stride in zip(self.stages, blocks, widths, strides, strict=False):
            self.add_module(name, stage_of_blocks(block, channels, width, count, stride))
            channels = width * block.expansion
            shape = tuple(-(-side // stride) for side in shape)
            shapes[name] = (channels, *shape)
        start_convolutions(self)
        if stripes is not None and not 1 <= stripes <= shape[0]:
            raise ValueError(f'stripes are 1 to the {shape[0]} rows of the map, got {stripes}')
        self.stripes = stripes
        width = channels * (stripes or 1)
        self.spec = ImageSpec(width=width, image_size=(rows, columns), stages=shapes)

    def load_weights(self) -> None:
        """Loads ``pretrained``, of torchvision's file all but the classifier.

        Raises:
            FileNotFoundError: If there is no such file; says which to get.
            ValueError: If keys or shapes do not match; names them.
        """
        load_pretrained(
            self,
            'image',
            WANTED,
            lambda state, _: self.completed(state),
            unused=('fc.', *(f'{name}.' for name in STAGES if name not in self.stages)),
        )

    def completed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a file, with counters, which old ones lack and nothing reads."""
        own = self.state_dict().items()
        return {key: value for key, value in own if key.endswith(COUNTER)} | dict(state)

    def forward(
        self, images: Tensor, reads: frozenset[str] = frozenset(), keep: Tensor | None = None
    ) -> ImageFeatures:
        """Encodes normalised images (B, 3, H, W) of ``spec.image_size``.

        Args:
            images: The images.
            reads: Names of features.
            keep: Must be None; it cannot encode some patches alone.

        Raises:
            ValueError: If the images have another size, or if it has no such features.
        """
        check_image_request(self, images, reads, keep)
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x, stages = run_stages(self, self.stages, x, reads)
        if self.stripes is None:
            return ImageFeatures(x.mean(dim=(2, 3)), stages=stages)
        return ImageFeatures(stripe_maxima(x, self.stripes).flatten(1), stages=stages)


def run_stages(
    encoder: nn.Module, names: tuple[str, ...], x: Tensor, reads: frozenset[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The map behind all these stages of an encoder, and those that are read by their name."""
    stages = {}
    for name in names:
        x = encoder.get_submodule(name)(x)
        if f'stages.{name}' in reads:
            stages[name] = x
    return x, stages


def _sizes(depth: int | dict) -> tuple[type[nn.Module], tuple[int, ...], tuple[int, ...], int]:
    """Kind of block, blocks and width of each stage, channels before them."""
    if isinstance(depth, dict):
        if depth['block'] not in BLOCKS:
            raise ValueError(f'block is one of {list(BLOCKS)}, got {depth["block"]!r}')
        return BLOCKS[depth['block']], depth['blocks'], depth['widths'], depth.get('stem', 64)
    if depth not in DEPTHS:
        raise ValueError(f'there is no ResNet of depth {depth}, choose from {list(DEPTHS)}')
    block, blocks = DEPTHS[depth]
    return BLOCKS[block], blocks, WIDTHS, 64
