"""MANet as its release computes a step, in words of our own."""

import copy

import torch
import torch.nn.functional as F
from plain_parts import (
    Classifiers,
    bert_words,
    compound_ranking,
    copied_lstm,
    cosines,
    frozen_bert,
    sorted_lstm,
    trunk,
)
from torch import Tensor, nn

from sen_toolbox.text.tokens import Tokens


class PlainMANet(nn.Module):
    """BERT on all positions; all pairs of positions are compared in 64 numbers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        head, text = model.heads['parts'], model.backbone.text
        self.draws, self.adaptive = head.draw_choices, head.ranking.adaptive
        self.trunk = trunk(model.backbone.image, 1)
        self.bert, self.lstm = frozen_bert(text.bert), copied_lstm(text.rnn)
        neck = copy.deepcopy(head.neck)
        self.mask, self.filtration, self.centres = neck.mask, neck.filtration, neck.centres
        self.image_whole, self.text_whole = neck.image_whole, neck.text_whole
        self.classifiers = nn.ModuleDict(
            {name: Classifiers(head.classifiers[name]) for name in ('whole', 'local')}
        )

    def groups(self) -> list[dict]:
        """Two of the optimiser."""
        rest = [p for name, p in self.named_parameters() if not name.startswith('trunk.')]
        return [dict(params=rest), dict(params=self.trunk.parameters(), lr=1e-4)]

    @staticmethod
    def normed(layer: nn.Module, x: Tensor) -> Tensor:
        """A linear layer and batch norm of (B, ..., C), with channels in front for the norm."""
        y = layer.fc(x).movedim(-1, 1)
        norm = layer.bn
        y = F.batch_norm(
            y, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, 0.1, norm.eps
        )
        return y.movedim(1, -1)

    def masked(self, x: Tensor) -> Tensor:
        """Positions (B, N, C), their channels weighed; differences of all pairs (B, N, N, 64)."""
        first, second = F.relu(self.normed(self.mask.theta, x)), self.normed(self.mask.phi, x)
        count = x.shape[1]
        there = F.relu(second)[:, None].expand(-1, count, -1, -1)
        differences = first[:, :, None].expand(-1, -1, count, -1) - there
        relations = F.relu(self.normed(self.mask.re, differences)).flatten(2)
        return x * self.normed(self.mask.att, torch.cat([x, relations], dim=2)).sigmoid()

    def parts(self, x: Tensor) -> Tensor:
        """Parts (B, 512, K) of positions (B, N, C), by relations (B, K, N, 512)."""
        centres = self.centres
        x = centres.conv(F.normalize(x, dim=2))
        here = F.relu(self.normed(centres.theta, x))
        there = F.relu(centres.phi['bn'](centres.phi['fc'](centres.centroids)))
        differences = here[:, None] - there[None, :, None]
        relations = F.relu(self.normed(centres.rm, differences))
        return (relations * x[:, None]).sum(dim=2).transpose(1, 2)

    def image_levels(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Both levels, and the means before and after the filtration."""
        maps = self.trunk(images)
        x = self.masked(maps.flatten(2).transpose(1, 2))
        x = x.transpose(1, 2).reshape(maps.shape)
        before = F.adaptive_avg_pool2d(x, 1).flatten(1)
        layers = self.filtration
        plain = layers.norm(x)
        style = x - plain
        squeezed = F.relu(layers.squeeze(F.adaptive_avg_pool2d(style, 1).flatten(1)))
        share = layers.excite(squeezed).sigmoid()[:, :, None, None]
        x = plain + style * share.expand_as(style) + x
        after = F.adaptive_avg_pool2d(x, 1).flatten(1)
        wide = self.image_whole(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        whole = F.adaptive_max_pool2d(wide, 1).squeeze(3)
        return dict(whole=whole, local=self.parts(x.flatten(2).transpose(1, 2))), before, after

    def text_levels(self, tokens: Tokens) -> dict[str, Tensor]:
        """Both levels of captions."""
        states = sorted_lstm(self.lstm, bert_words(self.bert, tokens), tokens.lengths)
        whole = self.text_whole(states.max(dim=1).values)[:, :, None]
        return dict(whole=whole, local=self.parts(states))

    def forward(self, batch: dict) -> Tensor:
        """The loss of a batch."""
        labels = batch['labels']
        images, before, after = self.image_levels(batch['images'])
        texts = self.text_levels(batch['tokens'])
        seconds = self.text_levels(batch['second_tokens'])
        total = kept(before, after, labels)
        for name, classify in self.classifiers.items():
            total = total + classify(images[name], texts[name], labels)
            draws = self.draws(name, len(labels), labels.device)
            three = images[name], texts[name], seconds[name]
            total = total + compound_ranking(three, labels, draws, self.adaptive)
        return total


def kept(before: Tensor, after: Tensor, labels: Tensor) -> Tensor:
    """Ranking against the hardest negative where it beats the pair, anchor by anchor."""
    table, _ = cosines(before, after)
    total = 0.0
    for scores in (table, table.t()):
        values, people = scores.detach().cpu().numpy(), labels.cpu().numpy()
        found = []
        for anchor, person in enumerate(people):
            others = (people != person).nonzero()[0]
            hardest = others[values[anchor, others].argmax()]
            if values[anchor, hardest] > values[anchor, anchor]:
                found.append((anchor, hardest))
        if not found:
            found.append((anchor, others[0]))
        anchors, negatives = torch.tensor(found).unbind(1)
        terms = 0.2 - scores[anchors, anchors] + scores[anchors, negatives]
        total = total + F.relu(terms).sum()
    return total
