"""CM-MoCo as its release computes a step, in words of our own."""

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from plain_parts import groups_of_one, sorted_states
from torch import Tensor, nn

from sen_toolbox.text.tokens import Tokens

SMOOTHING, TEMPERATURE = 0.1, 0.07


def clip_resnet(ours: nn.Module) -> ModifiedResNet:
    """CLIP's ResNet-50, which takes no step in its last stage."""
    pool = ours.attnpool
    tower = ModifiedResNet(
        layers=[3, 4, 6, 3],
        output_dim=pool.c_proj.out_features,
        heads=pool.num_heads,
        width=ours.conv3.out_channels,
    )
    tower.layer4[0].avgpool = tower.layer4[0].downsample[0] = nn.Identity()
    tower.attnpool.positional_embedding = nn.Parameter(torch.empty_like(pool.positional_embedding))
    tower.load_state_dict(ours.state_dict())
    return tower


class WordGRU(nn.Module):
    """A GRU of sorted captions over word vectors that stay as they are."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.register_buffer('vectors', ours.word_embedding.weight.detach().clone())
        rnn = ours.rnn
        self.gru = nn.GRU(rnn.input_size, rnn.hidden_size, bias=False, bidirectional=True)
        self.gru.load_state_dict(rnn.state_dict())

    def forward(self, tokens: Tokens) -> Tensor:
        """Maxima (T, W) over the words and over zeros up to the longest caption."""
        words = self.vectors[tokens.ids.flatten()].view(*tokens.ids.shape, -1)
        return sorted_states(self.gru, words, tokens.lengths).max(dim=1).values


class PlainCMMoCo(nn.Module):
    """Slow encoders are renewed one parameter after the other; queues are copied in every step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        backbone, head = model.backbone, model.heads['moco']
        self.image, self.text = clip_resnet(backbone.image), WordGRU(backbone.text)
        self.slow_image, self.slow_text = clip_resnet(head.slow.image), WordGRU(head.slow.text)
        self.projections = nn.ModuleList()
        for ours in (backbone.image_projection, backbone.text_projection):
            layer = nn.Linear(ours.in_features, ours.out_features)
            layer.load_state_dict(ours.state_dict())
            self.projections.append(layer)
        self.classes = nn.Parameter(model.heads['instance'].weight.detach().t().contiguous())
        for name in ('image_queue', 'text_queue', 'identities'):
            self.register_buffer(name, getattr(head, name).clone())
        self.place, self.momentum = 0, head.momentum
        with torch.no_grad():
            # A step here begins with the move, which ours have behind them.
            for fast, slow in self.pairs():
                slow.requires_grad_(False)
                slow.copy_((slow - (1 - self.momentum) * fast) / self.momentum)

    def pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Parameters of encoders beside those of the slow ones."""
        towers = (self.image, self.slow_image), (self.text, self.slow_text)
        return [
            two
            for fast, slow in towers
            for two in zip(fast.parameters(), slow.parameters(), strict=True)
        ]

    def groups(self) -> list[dict]:
        """Those of :func:`groups_of_one`."""
        return groups_of_one(self)

    @torch.no_grad()
    def keys(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Unit keys (B, D) of both, of slow encoders that have moved."""
        for fast, slow in self.pairs():
            slow.mul_(self.momentum).add_(fast * (1 - self.momentum))
        image = self.projections[0](self.slow_image(batch['images']))
        text = self.projections[1](self.slow_text(batch['tokens']))
        return F.normalize(image, dim=1), F.normalize(text, dim=1)

    @torch.no_grad()
    def enqueue(self, images: Tensor, texts: Tensor, labels: Tensor) -> None:
        """Puts keys over the oldest ones."""
        places = slice(self.place, self.place + len(labels))
        self.image_queue[:, places], self.text_queue[:, places] = images.t(), texts.t()
        self.identities[places] = labels
        self.place = (self.place + len(labels)) % len(self.identities)

    def forward(self, batch: dict) -> Tensor:
        """The loss of a batch."""
        labels = batch['labels']
        images = self.projections[0](self.image(batch['images']))
        texts = self.projections[1](self.text(batch['tokens']))
        image_keys, text_keys = self.keys(batch)
        free = (self.identities != labels[:, None]).all(dim=0).nonzero().flatten()
        total = identity(images, self.classes, labels) + identity(texts, self.classes, labels)
        total = total + align(images, texts, labels)
        for rows, keys, queue in (
            (images, text_keys, self.text_queue),
            (texts, image_keys, self.image_queue),
        ):
            queries, others = F.normalize(rows, dim=1), queue.clone()[:, free]
            own = torch.einsum('nd,nd->n', queries, keys)[:, None]
            logits = torch.cat([own, torch.einsum('nd,dk->nk', queries, others)], dim=1)
            logits = logits / TEMPERATURE
            total = total + F.cross_entropy(logits, torch.zeros(len(labels), dtype=torch.int64))
        self.enqueue(image_keys, text_keys, labels)
        return total


def identity(rows: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
    """Classification by unit class weights (D, C) against a target that is written out."""
    log_shares = F.log_softmax(rows @ F.normalize(classes, dim=0), dim=1)
    targets = torch.zeros_like(log_shares).scatter_(1, labels[:, None], 1)
    targets = (1 - SMOOTHING) * targets + SMOOTHING / classes.shape[1]
    return (-targets * log_shares).mean(dim=0).sum()


def align(images: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
    """Soft hinges of the cosines of one person, and of those of two."""
    scores = F.normalize(images, dim=1) @ F.normalize(texts, dim=1).t()
    same = labels[:, None] == labels[None]
    up = torch.log(1 + torch.exp(-10 * (scores[same] - 0.6)))
    down = torch.log(1 + torch.exp(40 * (scores[~same] - 0.4)))
    return 2 * (up.sum() + down.sum()) / len(labels)
