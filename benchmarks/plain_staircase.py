"""NAFS as its release computes a step, in words of our own."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
import torchvision
from plain_matching import cmpc, cmpm, likeness
from plain_parts import convolution, frozen_bert, trunk
from torch import Tensor, nn

RATE, DECAY = 1.1e-3, 4e-5
THIRDS, HALVES, CLAUSES = 3, 2, 2
SHARPNESS, WEIGHT = 20.0, 0.1


def stage(ours: nn.Module, name: str, stride: int) -> nn.Sequential:
    """A stage of torchvision's ResNet-50."""
    layers = getattr(torchvision.models.resnet50(weights=None), name[-6:])
    layers[0].conv2.stride = layers[0].downsample[0].stride = (stride, stride)
    layers.load_state_dict(ours.get_submodule(name).state_dict())
    return layers


def reordered(x: Tensor, order: Sequence[int]) -> Tensor:
    """A map with its stripes in another order, copied one by one."""
    height, mixed = x.shape[2] // len(order), torch.zeros_like(x)
    for place, number in enumerate(order):
        source = slice(number * height, (number + 1) * height)
        mixed[:, :, place * height : (place + 1) * height] = x[:, :, source]
    return mixed


class Stairs(nn.Module):
    """The whole, thirds and halves of images."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.draw: Callable[[int], list[int]] = ours.draw_order
        self.trunk = trunk(ours, 1)
        self.thirds = nn.Sequential(
            stage(ours, 'branch2_layer3', 2), stage(ours, 'branch2_layer4', 1)
        )
        self.halves = stage(ours, 'branch3_layer4', 1)

    def stripes(self, x: Tensor, layers: nn.Module, count: int) -> list[Tensor]:
        """Means (B, C) of stripes."""
        order = self.draw(count)
        back = [order.index(number) for number in range(count)]
        x = reordered(layers(reordered(x, order)), back)
        height = x.shape[2] // count
        parts = [x[:, :, k * height : (k + 1) * height] for k in range(count)]
        return [F.adaptive_avg_pool2d(part, 1).flatten(1) for part in parts]

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The mean (B, C, 1, 1) of the whole, and those of five stripes."""
        second = self.trunk[:-2](images)
        third = self.trunk[-2](second)
        whole = F.adaptive_avg_pool2d(self.trunk[-1](third), 1)
        stripes = self.stripes(second, self.thirds, THIRDS)
        return whole, stripes + self.stripes(third, self.halves, HALVES)


def projection(ours: nn.Module) -> nn.ModuleList:
    """A convolution with a bias and the norm that takes the bias away."""
    layer = convolution(ours.linear.weight.detach())
    layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
    norm = nn.BatchNorm1d(layer.out_channels)
    norm.load_state_dict(ours.norm.state_dict())
    return nn.ModuleList([layer, norm])


def linear_layers(ours: nn.Module) -> nn.ModuleList:
    """A linear layer for each part of a ``PartLinear``."""
    layers = nn.ModuleList()
    for weight, bias in zip(ours.weight.detach(), ours.bias.detach(), strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data.copy_(weight)
        layer.bias.data.copy_(bias)
        layers.append(layer)
    return layers


def word_layers(layer: nn.Linear, norm: nn.LayerNorm) -> nn.Sequential:
    """A linear layer and a norm over all places together."""
    layers = nn.Sequential(
        nn.Linear(layer.in_features, layer.out_features), nn.LayerNorm(norm.normalized_shape)
    )
    layers[0].load_state_dict(layer.state_dict())
    layers[1].load_state_dict(norm.state_dict())
    return layers


class PlainNAFS(nn.Module):
    """BERT twice on all positions; attention caption by caption, both ways, of which one counts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        head, backbone = model.heads['local'], model.backbone
        self.image, self.bert = Stairs(backbone.image), frozen_bert(backbone.text)
        self.bert.requires_grad_(True)
        self.projections = nn.ModuleList(
            projection(ours) for ours in (backbone.image_projection, backbone.text_projection)
        )
        self.stripes = linear_layers(head.stripes)
        self.queries, self.values = linear_layers(head.query), linear_layers(head.value)
        self.word_keys = word_layers(head.word_key, head.key_norm)
        self.word_values = word_layers(head.word_value, head.value_norm)
        self.classes = nn.Parameter(model.heads['cmpc'].weight.detach().t().contiguous())

    def groups(self) -> list[dict]:
        """Three of the optimiser; the norms' biases, whose gradients are ours too, stay 0."""
        still = {id(norm.bias) for _, norm in self.projections}
        towers = {id(p) for tower in (self.image, self.bert) for p in tower.parameters()}
        rest = [p for p in self.parameters() if id(p) not in still | towers]
        return [
            dict(params=rest, lr=RATE),
            dict(params=self.image.parameters(), lr=RATE / 10, weight_decay=DECAY),
            dict(params=self.bert.parameters(), lr=RATE / 10),
        ]

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Last states (T, L, W) of all positions."""
        return self.bert(ids, attention_mask=mask.long(), token_type_ids=torch.zeros_like(ids))[0]

    def forward(self, batch: dict) -> Tensor:
        """The loss of a batch."""
        labels, tokens = batch['labels'], batch['tokens']
        ids, mask = (x.unflatten(1, (1 + CLAUSES, -1)) for x in (tokens.ids, tokens.mask))
        clauses = self.read(ids[:, 1:].flatten(0, 1), mask[:, 1:].flatten(0, 1))[:, 0]
        whole, stripes = self.image(batch['images'])
        words = self.read(ids[:, 0], mask[:, 0])
        images, texts = (
            norm(layer(x).flatten(1))
            for (layer, norm), x in zip(
                self.projections, (whole, words[:, 0, :, None, None]), strict=True
            )
        )
        places = self.word_keys[1].normalized_shape[0]
        sequence = [texts[:, None], clauses.view(len(texts), CLAUSES, -1)]
        rows = torch.cat([*sequence, words[:, 1 : places - CLAUSES]], dim=1)
        regions = [images, *(layer(x) for layer, x in zip(self.stripes, stripes, strict=True))]
        queries, values = (
            torch.stack([layer(x) for layer, x in zip(layers, regions, strict=True)], dim=1)
            for layers in (self.queries, self.values)
        )
        lengths = mask[:, 0].sum(dim=1) + 3
        local = similarities(queries, values, self.word_keys(rows), self.word_values(rows), lengths)
        total = cmpm(images, texts, labels) + cmpc(self.classes, images, texts, labels)
        same = (labels[:, None] == labels[None]).float()
        terms = F.log_softmax(SHARPNESS * local, dim=1) - torch.log(same / same.norm(dim=1) + 1e-8)
        likeness(local, labels)
        return total + WEIGHT * (F.softmax(SHARPNESS * local, dim=1) * terms).sum(dim=1).mean()


def unit(x: Tensor, dim: int) -> Tensor:
    """Vectors of length 1."""
    return x / (x.pow(2).sum(dim=dim, keepdim=True).sqrt() + 1e-8)


def attended(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What each of the queries (B, Q, D) sees of values (B, K, D)."""
    scores = torch.bmm(unit(keys, 2), unit(queries, 2).transpose(1, 2))
    scores = unit(F.leaky_relu(scores, 0.1), 2).transpose(1, 2).contiguous()
    shares = (SHARPNESS * scores).softmax(dim=2)
    return torch.bmm(values.transpose(1, 2), shares.transpose(1, 2).contiguous()).transpose(1, 2)


def similarities(
    queries: Tensor, values: Tensor, keys: Tensor, word_values: Tensor, lengths: Tensor
) -> Tensor:
    """Local similarities (B, T), caption by caption."""
    columns = []
    for number, length in enumerate(lengths):
        of_caption = (x[number, :length].repeat(len(queries), 1, 1) for x in (keys, word_values))
        word_keys, words = of_caption
        seen = unit(attended(queries, word_keys, words), 2)
        columns.append(F.cosine_similarity(values, seen, dim=2, eps=1e-8).mean(dim=1))
        # The other way, which nothing reads.
        seen = unit(attended(word_keys, queries, values), 2)
        F.cosine_similarity(words, seen, dim=2, eps=1e-8).mean(dim=1)
    return torch.stack(columns, dim=1)
