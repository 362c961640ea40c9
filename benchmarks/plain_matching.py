"""CMPM/C (the PyTorch version) and TIPCB as their releases compute a step, in words of our own."""

import torch
import torch.nn.functional as F
from plain_parts import bert_words, convolution, frozen_bert, sorted_states, trunk, words_and_lstms
from torch import Tensor, nn


def cmpm(images: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
    """Projection matching with a square root; the softmax is computed twice."""
    image_unit, text_unit = (x / x.norm(dim=1, keepdim=True) for x in (images, texts))
    same = (labels[:, None] - labels[None] == 0).float()
    same = same / same.norm(dim=1)
    total = 0.0
    for scores in (images @ text_unit.t(), texts @ image_unit.t()):
        terms = F.log_softmax(scores, dim=1) - torch.log(same + 1e-8)
        total = total + (F.softmax(scores, dim=1) * terms).sum(dim=1).mean()
    return total


def likeness(scores: Tensor, labels: Tensor) -> None:
    """Mean scores of pairs of one person and of two, which releases only show."""
    same = labels[:, None] == labels[None]
    for pairs in (same, ~same):
        scores.masked_select(pairs).mean()


def cmpc(classes: Tensor, images: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
    """Classification of projections, and its accuracies, which are only shown."""
    unit = classes / classes.norm(dim=0)
    image_unit, text_unit = (x / x.norm(dim=1, keepdim=True) for x in (images, texts))
    image_logits = (images * text_unit).sum(dim=1, keepdim=True) * text_unit @ unit
    text_logits = (texts * image_unit).sum(dim=1, keepdim=True) * image_unit @ unit
    for logits in (image_logits, text_logits):
        (logits.argmax(dim=1) == labels).float().mean()
    likeness(image_unit @ text_unit.t(), labels)
    return F.cross_entropy(image_logits, labels) + F.cross_entropy(text_logits, labels)


class PlainCMPM(nn.Module):
    """Two packed LSTMs side by side, the second of a batch turned round twice; CMPM and CMPC."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        backbone, text = model.backbone, model.backbone.text
        self.trunk = trunk(backbone.image, 2)
        self.words, self.lstms = words_and_lstms(text)
        self.projections = nn.ModuleList()
        for ours in (backbone.image_projection, backbone.text_projection):
            layer = nn.Conv2d(ours.in_features, ours.out_features, 1)
            layer.weight.data.copy_(ours.weight.detach()[:, :, None, None])
            layer.bias.data.copy_(ours.bias.detach())
            self.projections.append(layer)
        self.classes = nn.Parameter(model.heads['cmpc'].weight.detach().t().contiguous())

    def groups(self) -> list[dict]:
        """Those of the optimiser: only the trunk decays."""
        rest = [p for name, p in self.named_parameters() if not name.startswith('trunk.')]
        return [dict(params=self.trunk.parameters(), weight_decay=4e-5), dict(params=rest)]

    def forward(self, batch: dict) -> Tensor:
        """The loss of a batch."""
        tokens, labels = batch['tokens'], batch['labels']
        maps = F.adaptive_avg_pool2d(self.trunk(batch['images']), 1)
        lengths = tokens.lengths
        words = self.words(tokens.ids)
        first = sorted_states(self.lstms[0], words, lengths)
        second = sorted_states(self.lstms[1], words.flip(0), lengths.flip(0)).flip(0)
        pooled = torch.cat([first, second], dim=2).max(dim=1).values
        images = self.projections[0](maps).squeeze(3).squeeze(2)
        texts = self.projections[1](pooled[:, :, None, None]).squeeze(3).squeeze(2)
        return cmpm(images, texts, labels) + cmpc(self.classes, images, texts, labels)


class PlainTIPCB(nn.Module):
    """BERT on all 64 positions, six branches that each run the shared shortcut again."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk(model.backbone.image, 1)
        self.bert = frozen_bert(model.backbone.text)
        neck = model.heads['levels'].neck
        self.conv, self.norm = self.convolved(neck.conv1, neck.bn1)
        self.shortcut = nn.Sequential(*self.convolved(*neck.downsample))
        self.branches = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(
                    *self.convolved(block.conv1, block.bn1),
                    nn.ReLU(inplace=True),
                    *self.convolved(block.conv2, block.bn2),
                    nn.ReLU(inplace=True),
                    *self.convolved(block.conv3, block.bn3),
                )
                for block in branch
            )
            for branch in neck.branches
        )

    @staticmethod
    def convolved(conv: nn.Conv1d, norm: nn.Module) -> tuple[nn.Module, nn.Module]:
        """A convolution of maps of one row, and its norm."""
        weight = conv.weight.detach()
        if weight.shape[2] == 1:
            layer = convolution(weight[:, :, 0])
        else:
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], (1, 3), padding=(0, 1), bias=False)
            layer.weight.data.copy_(weight[:, :, None])
        after = nn.BatchNorm2d(norm.num_features)
        after.load_state_dict(norm.state_dict())
        return layer, after

    def groups(self) -> list[dict]:
        """One group of all, the frozen BERT among them."""
        return [dict(params=self.parameters())]

    def forward(self, batch: dict) -> Tensor:
        """The loss of a batch."""
        words = bert_words(self.bert, batch['tokens']).unsqueeze(1).permute(0, 3, 1, 2)
        x = batch['images']
        for number, stage in enumerate(self.trunk):
            x = stage(x)
            if number == len(self.trunk) - 2:
                early = x
        pool = nn.AdaptiveMaxPool2d((1, 1))
        step = -(-x.shape[2] // len(self.branches))
        maps = [early, *(x[:, :, k * step : (k + 1) * step] for k in range(6)), x]
        images = [pool(part).flatten(1) for part in maps]
        low = F.relu(self.norm(self.conv(words)))
        parts = []
        for branch in self.branches:
            y, first = low, True
            for block in branch:
                shortcut = self.shortcut(y) if first else y
                y, first = F.relu(block(y) + shortcut), False
            parts.append(pool(y))
        whole = pool(torch.cat(parts, dim=2)).flatten(1)
        texts = [pool(low).flatten(1), *(part.flatten(1) for part in parts), whole]
        pairs = zip(images, texts, strict=True)
        return sum(cmpm(image, text, batch['labels']) for image, text in pairs)
