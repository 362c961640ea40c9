"""Dual Path's second stage as its release computes a step, in words of our own.

The release is MATLAB: sentences are maps of one row whose channels are the words of the vocabulary,
losses are sums, and every parameter is updated by itself.
"""

from functools import partial

import torch
import torch.nn.functional as F
from plain_parts import convolution, trunk
from torch import Tensor, nn

from sen_toolbox.text.tokens import Tokens

RATE, DECAY = 0.1, 1e-4


class MomentNorm(nn.Module):
    """Batch norm that averages the mean and the deviation, which normalising finds anyway."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.eps, self.share = ours.eps, ours.momentum
        self.weight = nn.Parameter(ours.weight.detach().clone())
        self.bias = nn.Parameter(ours.bias.detach().clone())
        self.register_buffer('mean', ours.running_mean.clone())
        self.register_buffer('deviation', (ours.running_var + ours.eps).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Normalises maps (B, C, 1, L) by the batch."""
        y, mean, inverse = torch.native_batch_norm(
            x, self.weight, self.bias, None, None, True, 0.0, self.eps
        )
        self.mean.lerp_(mean.detach(), self.share)
        self.deviation.lerp_(inverse.detach().reciprocal(), self.share)
        return y


def along(ours: nn.Conv1d) -> nn.Conv2d:
    """A convolution along maps of one row."""
    weight = ours.weight.detach()
    out, given, width = weight.shape
    layer = nn.Conv2d(given, out, (1, width), (1, ours.stride[0]), bias=False)
    layer.weight.data.copy_(weight[:, :, None])
    return layer


class Unit(nn.Module):
    """A residual unit over the places of sentences."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        for name in ('reduce', 'middle', 'widen'):
            self.layers.append(along(getattr(ours, name)))
            self.norms.append(MomentNorm(getattr(ours, f'{name}_norm')))
        self.shortcut = nn.Sequential()
        if isinstance(ours.shortcut, nn.Conv1d):
            self.shortcut.extend([along(ours.shortcut), MomentNorm(ours.shortcut_norm)])

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, 1, L) to those of the next unit."""
        y = F.relu(self.norms[0](self.layers[0](x)))
        y = F.relu(self.norms[1](self.layers[1](F.pad(y, (1, 0)))))
        return F.relu(self.norms[2](self.layers[2](y)) + self.shortcut(x))


class PlainDualPath(nn.Module):
    """Words by a convolution over all of the vocabulary; a classifier that is run twice."""

    optimizer = staticmethod(partial(torch.optim.SGD, momentum=0.9, nesterov=True))

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        image, text = model.backbone.image, model.backbone.text
        self.trunk = trunk(image.trunk, 2)
        for module in self.trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1e-3
        self.image_path = nn.Sequential(
            convolution(image.hidden.weight.detach()),
            MomentNorm(image.hidden_norm),
            nn.ReLU(),
            convolution(image.output.weight.detach()),
            MomentNorm(image.output_norm),
        )
        count, width = text.word_embedding.weight.shape
        self.word_layer = nn.Conv2d(count, width, 1)
        self.word_layer.weight.data.copy_(text.word_embedding.weight.detach().t()[:, :, None, None])
        self.word_layer.bias.data.copy_(text.word_bias.detach())
        self.word_norm = MomentNorm(text.word_norm)
        self.units = nn.Sequential(*(Unit(unit) for unit in text.units))
        self.output = convolution(text.output.weight.detach())
        self.output_norm = MomentNorm(text.output_norm)
        classifier = model.heads['instance'].classifier
        self.classes = convolution(classifier.weight.detach())
        self.classes.bias = nn.Parameter(classifier.bias.detach().clone())

    def groups(self) -> list[dict]:
        """One for each parameter, with the rate of its kind."""
        kinds = {p: 'norm' for m in self.modules() for p in norm_weights(m)}
        return [
            dict(
                params=[parameter],
                lr=RATE * factor(name, kinds.get(parameter, '')),
                weight_decay=DECAY,
            )
            for name, parameter in self.named_parameters()
        ]

    def forward(self, batch: dict) -> Tensor:
        """The loss of a batch of couples, a pair and its negative."""
        labels = batch['labels']
        maps = F.adaptive_avg_pool2d(self.trunk(batch['images']), 1)
        images = F.relu(self.image_path(maps))
        texts = F.relu(self.output_norm(self.output(self.places(batch['tokens']))))
        total = 2 * ranking(images.flatten(1), texts.flatten(1))
        for rows, weight in ((images, 1.0), (texts, 0.5)):
            logits = self.classes(rows).flatten(1)
            # Errors are shown beside the loss.
            (logits.argmax(dim=1) != labels).float().sum()
            total = total + weight * F.cross_entropy(logits, labels, reduction='sum')
        # The release divides the gradients.
        return total / len(labels)

    def places(self, tokens: Tokens) -> Tensor:
        """Maxima (B, C, 1, 1) over the places of sentences."""
        words = F.one_hot(tokens.ids, self.word_layer.in_channels) * tokens.mask[:, :, None]
        rows = words.float().transpose(1, 2)[:, :, None].contiguous()
        return self.units(self.word_norm(self.word_layer(rows))).amax(dim=3, keepdim=True)


def norm_weights(module: nn.Module) -> list[Tensor]:
    """The scale of a norm."""
    return [module.weight] if isinstance(module, (MomentNorm, nn.BatchNorm2d)) else []


def factor(name: str, kind: str) -> float:
    """Of the rate, for a parameter."""
    if name == 'trunk.0.weight':
        return 1e-4
    if name.startswith('trunk.'):
        return 1e-3 if kind == 'norm' else 0.02
    if name.startswith('word_layer.'):
        return 1e-3
    if name.startswith('classes.'):
        return 0.02 if name.endswith('bias') else 0.01
    return 0.2 if kind == 'norm' else 0.1


def ranking(images: Tensor, texts: Tensor) -> Tensor:
    """The sum over pairs of both hinges against the negative behind each."""
    images, texts = (x / (1e-8 + x.pow(2).sum(dim=1, keepdim=True)).sqrt() for x in (images, texts))
    pair, negative = slice(0, None, 2), slice(1, None, 2)
    match = (images[pair] * texts[pair]).sum(dim=1)
    of_text = 1 - match + (images[pair] * texts[negative]).sum(dim=1)
    of_image = 1 - match + (texts[pair] * images[negative]).sum(dim=1)
    return (F.relu(of_text) + F.relu(of_image)).sum()
