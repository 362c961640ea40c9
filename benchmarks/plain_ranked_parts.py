"""SSAN and BEAT as their releases compute a step, in words of our own."""

import torch
import torch.nn.functional as F
from plain_parts import (
    SLOPE,
    Classifiers,
    bert_words,
    by_part,
    compound_ranking,
    convolution,
    copied_lstm,
    frozen_bert,
    part_convolutions,
    sorted_lstm,
    trunk,
)
from torch import Tensor, nn

from sen_toolbox.text.tokens import Tokens

LEVELS = {'whole': 1.0, 'local': 0.5, 'non_local': 0.5}
PARTS = 6


class NonLocal(nn.Module):
    """Parts that look at each other, a convolution and a norm for each in turn."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.keys, self.queries = part_convolutions(ours.key), part_convolutions(ours.query)
        self.widen, self.project = part_convolutions(ours.widen), part_convolutions(ours.project)
        self.norms = nn.ModuleList(nn.BatchNorm2d(len(w.weight)) for w in self.widen)
        for name in ('weight', 'bias'):
            shares = getattr(ours.norm, name).detach().chunk(PARTS)
            for norm, share in zip(self.norms, shares, strict=True):
                getattr(norm, name).data.copy_(share)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, A, K) of parts (B, F, K)."""
        keys, queries = (
            F.leaky_relu(by_part(layers, x), SLOPE) for layers in (self.keys, self.queries)
        )
        keys, queries = (
            y / (y.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-8) for y in (keys, queries)
        )
        apart = torch.eye(PARTS).mul(-1e6).repeat(len(x), 1, 1)
        shares = F.softmax(torch.bmm(keys.transpose(1, 2), queries) + apart, dim=1)
        received = torch.bmm(keys, shares)
        wide = [
            F.leaky_relu(norm(layer(received[:, :, k, None, None])), SLOPE).flatten(1)
            for k, (layer, norm) in enumerate(zip(self.widen, self.norms, strict=True))
        ]
        return by_part(self.project, x + torch.stack(wide, dim=2))


class PlainSSAN(nn.Module):
    """Two packed passes of the LSTM for each of two captions, parts of words caption by caption."""

    last_stride = 2

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        head = model.heads['parts']
        self.draws, self.adaptive = head.draw_choices, head.ranking.adaptive
        self.trunk = trunk(model.backbone.image, self.last_stride)
        self.lstm = copied_lstm(model.backbone.text.rnn)
        self.add_words(model.backbone.text)
        self.whole = convolution(head.neck.whole.weight.detach()[0])
        self.local = part_convolutions(head.neck.part)
        self.word_part = convolution(head.neck.word_part.weight.detach())
        self.non_local = NonLocal(head.neck.non_local)
        self.classifiers = nn.ModuleDict({n: Classifiers(head.classifiers[n]) for n in LEVELS})

    def add_words(self, text: nn.Module) -> None:
        """Two tables of words."""
        self.tables = nn.ModuleList(
            nn.Embedding.from_pretrained(table.weight.detach().clone(), freeze=False, padding_idx=0)
            for table in (text.word_embedding, text.local_embedding)
        )

    def groups(self) -> list[dict]:
        """Two of the optimiser."""
        rest = [p for name, p in self.named_parameters() if not name.startswith('trunk.')]
        return [dict(params=rest), dict(params=self.trunk.parameters(), lr=1e-4)]

    def image_levels(self, images: Tensor) -> dict[str, Tensor]:
        """Features (B, width, K) by level."""
        maps = self.trunk(images)
        stripes = F.adaptive_max_pool2d(maps, (PARTS, 1)).squeeze(3)
        return self.levels(F.adaptive_max_pool2d(maps, (1, 1)), stripes)

    def levels(self, whole: Tensor, parts: Tensor) -> dict[str, Tensor]:
        """Of what is pooled: (B, C, 1, 1) and (B, C, K)."""
        local = F.leaky_relu(by_part(self.local, parts), SLOPE)
        return dict(
            whole=self.whole(whole).squeeze(3), local=local, non_local=self.non_local(local)
        )

    def text_levels(self, tokens: Tokens) -> dict[str, Tensor]:
        """Features (T, width, K) by level."""
        first, second = (
            sorted_lstm(self.lstm, table(tokens.ids), tokens.lengths) for table in self.tables
        )
        whole = first.transpose(1, 2).max(dim=2).values[:, :, None, None]
        return self.levels(whole, self.parts_of_words(second, tokens.lengths))

    def parts_of_words(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Maxima (T, C, K) over the words of each caption in turn, weighed for each part."""
        found = []
        for row, length in zip(states, lengths, strict=True):
            words = row.t()[None, :, :length, None].contiguous()
            shares = self.word_part(words).sigmoid().permute(0, 3, 2, 1).contiguous()
            found.append((words.repeat(1, 1, 1, PARTS) * shares).max(dim=2).values)
        return torch.cat(found)

    def forward(self, batch: dict) -> Tensor:
        """The loss of a batch."""
        labels = batch['labels']
        images, texts = self.image_levels(batch['images']), self.text_levels(batch['tokens'])
        seconds = self.text_levels(batch['second_tokens'])
        total = 0.0
        for name, weight in LEVELS.items():
            identity = self.classifiers[name](images[name], texts[name], labels)
            three = images[name], texts[name], seconds[name]
            total = total + weight * (identity + self.rank(name, three, labels))
        return total

    def rank(self, name: str, features: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """The ranking of a level."""
        draws = self.draws(name, len(labels), labels.device)
        # Ours draws for parts in the other order of axes, which cosines do not see.
        return compound_ranking(features, labels, draws, self.adaptive)


class PlainBEAT(PlainSSAN):
    """BERT on all positions, a module for each of 24 projections, each ranked and classified."""

    last_stride = 1

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        head = model.heads['parts']
        self.padding = model.backbone.text.padding
        self.to_text, self.to_image = (
            nn.ModuleDict({name: self.projections(ours[name]) for name in LEVELS})
            for ours in (head.to_text, head.to_image)
        )

    def add_words(self, text: nn.Module) -> None:
        """BERT."""
        self.bert = frozen_bert(text.bert)

    @staticmethod
    def projections(ours: nn.Module) -> nn.ModuleList:
        """Two layers each."""
        layers = nn.ModuleList()
        for narrow, widen in zip(ours.narrow.detach(), ours.widen.detach(), strict=True):
            pair = [nn.Conv1d(w.shape[1], w.shape[0], 1, bias=False) for w in (narrow, widen)]
            for layer, weight in zip(pair, (narrow, widen), strict=True):
                layer.weight.data.copy_(weight[:, :, None])
            layers.append(nn.Sequential(pair[0], nn.ReLU(), pair[1]))
        return layers

    def text_levels(self, tokens: Tokens) -> dict[str, Tensor]:
        """Features (T, width, K) by level."""
        words = bert_words(self.bert, tokens)
        lengths = (tokens.lengths + self.padding).clamp(max=words.shape[1])
        states = sorted_lstm(self.lstm, words, lengths)
        return self.levels(states[:, 0, :, None, None], self.parts_of_words(states, lengths))

    def projected(self, layers: nn.ModuleDict, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each level in the other space, (B, M, width, K)."""
        return {
            name: torch.stack([x + layer(x) for layer in layers[name]], dim=1)
            for name, x in levels.items()
        }

    def forward(self, batch: dict) -> Tensor:
        """The loss of a batch."""
        labels = batch['labels']
        images, texts = self.image_levels(batch['images']), self.text_levels(batch['tokens'])
        seconds = self.text_levels(batch['second_tokens'])
        in_text = self.projected(self.to_text, images)
        in_image, seconds_in_image = (self.projected(self.to_image, x) for x in (texts, seconds))
        total = 0.0
        for name, weight in LEVELS.items():
            classify = self.classifiers[name]
            identity = classify(images[name], texts[name], labels)
            ranking = 0.0
            for m in range(in_text[name].shape[1]):
                image, text = in_text[name][:, m], in_image[name][:, m]
                identity = identity + classify(image, text, labels)
                plain_image = images[name], text, seconds_in_image[name][:, m]
                plain_text = image, texts[name], seconds[name]
                ranking = ranking + self.rank(f'{name}.{m}.image', plain_image, labels)
                ranking = ranking + self.rank(f'{name}.{m}.text', plain_text, labels)
            total = total + weight * (identity + ranking / 2)
        return total
