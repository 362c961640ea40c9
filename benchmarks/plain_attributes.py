"""ViTAA as its release computes a step, in words of our own."""

import torch
import torch.nn.functional as F
from plain_parts import groups_of_one, sorted_states, trunk, words_and_lstms
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, conv1x1

from sen_toolbox.text.tokens import Tokens

PARTS, NEIGHBOURS, SCALE = 5, 8, 28


def two_blocks(ours: nn.Sequential) -> nn.Sequential:
    """Two of torchvision's blocks, the first with a wider way past it."""
    given, width = ours[0].conv1.in_channels, ours[0].conv1.out_channels
    past = nn.Sequential(conv1x1(given, width), nn.BatchNorm2d(width))
    blocks = nn.Sequential(BasicBlock(given, width, downsample=past), BasicBlock(width, width))
    blocks.load_state_dict(ours.state_dict())
    return blocks


def linear(ours: nn.Linear) -> nn.Linear:
    """A linear layer."""
    layer = nn.Linear(ours.in_features, ours.out_features)
    layer.load_state_dict(ours.state_dict())
    return layer


class PlainViTAA(nn.Module):
    """Branches one after the other, packed LSTMs, and alignment in loops over samples."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        image, text, head = model.backbone.image, model.backbone.text, model.heads['attributes']
        self.trunk = trunk(image, 2)[:-1]
        self.whole = two_blocks(image.branch)
        self.branches = nn.ModuleList(two_blocks(branch) for branch in head.branches)
        width = head.segment[0].in_channels
        self.segment = nn.Sequential(
            nn.ConvTranspose2d(width, width, 2, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, PARTS + 1, 1),
        )
        self.segment.load_state_dict(head.segment.state_dict())
        self.words, self.lstms = words_and_lstms(text)
        self.of_image = linear(model.backbone.image_projection)
        self.of_text = linear(model.backbone.text_projection)
        self.of_part = linear(head.part_projection)
        self.of_attribute = linear(head.attribute_projection)
        self.classes = nn.Parameter(model.heads['instance'].weight.detach().t().contiguous())

    def groups(self) -> list[dict]:
        """Those of :func:`groups_of_one`."""
        return groups_of_one(self)

    def read(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Maxima (T, W) of both LSTMs, the second of a batch that is turned round twice."""
        words = self.words(ids)
        first = sorted_states(self.lstms[0], words, lengths)
        second = sorted_states(self.lstms[1], words.flip(0), lengths.flip(0)).flip(0)
        return torch.cat([first, second], dim=2).max(dim=1).values

    def read_attributes(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Embeddings (K, B, D) of what is told of each part, and whether anything is, (B, K)."""
        ids, mask = (x.unflatten(1, (PARTS, -1)).transpose(0, 1) for x in (tokens.ids, tokens.mask))
        lengths = mask.sum(dim=2)
        rows = self.read(ids.flatten(0, 1), lengths.flatten().clamp(min=1))
        return self.of_attribute(rows).unflatten(0, lengths.shape), (lengths > 0).t()

    def forward(self, batch: dict) -> Tensor:
        """The loss of a batch."""
        labels, tokens = batch['labels'], batch['tokens']
        maps = self.trunk(batch['images'])
        texts = self.of_text(self.read(tokens.ids, tokens.lengths))
        attributes, told = self.read_attributes(batch['attribute_tokens'])
        images = self.of_image(F.adaptive_avg_pool2d(self.whole(maps), 1).flatten(1))
        parts, segments = [], []
        for branch in self.branches:
            local = branch(maps)
            segments.append(self.segment(local))
            parts.append(self.of_part(F.adaptive_max_pool2d(local, 1).flatten(1)))
        whole = batch['segmentation'].long()
        labelled = [whole * (whole == number) for number in range(1, PARTS + 1)]
        seen = torch.stack([each.flatten(1).any(dim=1) for each in labelled], dim=1)
        pixels = F.cross_entropy(torch.cat(segments), torch.cat(labelled), reduction='none')
        return (
            PARTS * pixels.mean()
            + self.identity(images, labels)
            + self.identity(texts, labels)
            + align(images, texts, labels)
            + align_parts(torch.stack(parts), attributes, labels, seen, told)
        )

    def identity(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Classification by the cosines with class weights."""
        cosines = F.normalize(rows, dim=1) @ F.normalize(self.classes, dim=0)
        return F.cross_entropy(SCALE * cosines, labels)


def hinges(scores: Tensor, positive: Tensor) -> Tensor | float:
    """The sum over scores (N,), of which some are to be high and the rest low."""
    total = 0.0
    high, low = (chosen.nonzero().squeeze(1) for chosen in (positive, ~positive))
    if len(high):
        total = total + torch.log(1 + torch.exp(-10 * (scores[high] - 0.6))).sum()
    if len(low):
        total = total + torch.log(1 + torch.exp(40 * (scores[low] - 0.4))).sum()
    return total


def align(images: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
    """Hinges of every row and every column of the cosines, in turn."""
    scores = F.normalize(images, dim=1) @ F.normalize(texts, dim=1).t()
    same = labels[:, None] == labels[None]
    total = 0.0
    for number in range(len(labels)):
        total = total + hinges(scores[number], same[number])
        total = total + hinges(scores[:, number], same[:, number])
    return total / len(labels)


def reciprocal(orders: Tensor, back: Tensor, number: int) -> Tensor:
    """Which of the best of a row have that row among their own best."""
    first = orders[number, :NEIGHBOURS]
    places = (back[first, :NEIGHBOURS] == number).nonzero()[:, 0]
    return first[places].unique()


def align_parts(
    parts: Tensor, attributes: Tensor, labels: Tensor, seen: Tensor, told: Tensor
) -> Tensor:
    """Hinges of each sample's part and attribute (K, B, D), part by part and sample by sample."""
    parts, attributes = (F.normalize(x, dim=2) for x in (parts, attributes))
    same = labels[:, None] == labels[None]
    total = 0.0
    for part in range(PARTS):
        scores = parts[part] @ attributes[part].t()
        orders, back = (x.argsort(dim=1, descending=True) for x in (scores, scores.t()))
        # The sample with the number of the part; batches of the release always have one.
        own = min(part, len(labels) - 1)
        loss = 0.0
        for sample in range(len(labels)):
            if not seen[sample, part]:
                continue
            positive = same[sample].clone()
            positive[reciprocal(orders, back, own)] = True
            there = told[:, part]
            loss = loss + hinges(scores[sample, there], positive[there])
            if not told[sample, part]:
                continue
            positive = same[sample].clone()
            positive[reciprocal(back, orders, own)] = True
            there = seen[:, part]
            loss = loss + hinges(scores[there, sample], positive[there])
        total = total + loss / len(labels)
    return total / PARTS
