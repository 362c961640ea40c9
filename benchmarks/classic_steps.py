"""One training step of the classic methods: ours and a plain rendition of each release's step.

On one core, in float32, with the widths of the papers; images (192 x 64), captions (a third of the
usual length, in rows of the usual number of tokens), batches and the number of identities (1,000)
are small, and nothing is dropped, so that both compute the same. The plain renditions
(``plain_*.py`` beside this file) have weights of their own, copied from ours, and torch's optimiser
in the groups of the releases.
"""

import math
from collections.abc import Callable

import torch
from activation_memory import LiveStorages
from common import Report, alternate, arguments
from plain_attributes import PARTS, PlainViTAA
from plain_dual_path import PlainDualPath
from plain_manet import PlainMANet
from plain_matching import PlainCMPM, PlainTIPCB
from plain_momentum import PlainCMMoCo
from plain_ranked_parts import PlainBEAT, PlainSSAN
from plain_staircase import CLAUSES, PlainNAFS
from torch import Tensor, nn
from train_step import own_optimizer
from workload import draw_lengths

from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS
from sen_toolbox.text.tokens import Tokens

GOAL = '1x'
METHODS = {
    'cmpm': ('cmpm_port_r50_cuhk', PlainCMPM),
    'ssan': ('ssan_r50_cuhk', PlainSSAN),
    'tipcb': ('tipcb_r50_cuhk', PlainTIPCB),
    'manet': ('manet_r50_cuhk', PlainMANet),
    'beat': ('beat_r50_cuhk', PlainBEAT),
    'dual_path': ('dual_path_r50_cuhk', PlainDualPath),
    'cm_moco': ('cm_moco_rn50_cuhk', PlainCMMoCo),
    'vitaa': ('vitaa_r50_cuhk', PlainViTAA),
    'nafs': ('nafs_r50_cuhk', PlainNAFS),
}
WORDS, ATTRIBUTE_WORDS = 5000, 25
SIZES = dict(image_size=(192, 64), num_classes=1000)


def build(method: str) -> nn.Module:
    """The model of a method's config with random weights and without dropout."""
    config = load_config(f'projects/{method}/configs/{METHODS[method][0]}.py', SIZES)
    given_words = config.model.backbone.text.get('word_vectors')
    without_files(config.model)
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.config = config
    # Vectors of words that are read from a file stay as they are.
    if given_words:
        model.backbone.word_embedding.requires_grad_(False)
    if hasattr(model.backbone.image, 'draw_order'):
        model.backbone.image.draw_order = lambda count: [*range(1, count), 0]
    drawn = {}

    def draw_choices(name: str, count: int, device: torch.device) -> Tensor:
        # Ours and the rendition choose the same negatives.
        return drawn.setdefault(name, torch.rand(count, 4))

    for head in model.heads.values():
        if hasattr(head, 'dropout'):
            head.dropout = 0.0
        if hasattr(head, 'draw_choices'):
            head.draw_choices = draw_choices
            head.ranking.adaptive = True
        if hasattr(head, 'identities'):
            # Queues are full, as after the first steps, and know the people of the batch.
            head.identities.copy_(torch.arange(len(head.identities)) % config.num_classes)
    return model


def without_files(part: dict) -> None:
    """Random weights, a vocabulary of numbered words, and no dropout in a part of a config."""
    for name, value in list(part.items()):
        if name in ('pretrained', 'word_vectors'):
            part[name] = None
        elif name.endswith('dropout'):
            part[name] = 0.0
        elif name == 'vocab_file':
            del part[name]
            part['vocabulary'] = [f'word{number}' for number in range(WORDS)]
        elif isinstance(value, dict):
            without_files(value)


def draw_batch(model: nn.Module, size: int) -> dict[str, Tensor | Tokens]:
    """A preprocessed batch, two pairs an identity, with all that some method reads."""
    torch.manual_seed(1)
    spec = model.backbone.spec
    width = spec.text.context_length
    rows, columns = spec.image.image_size

    def draw_tokens() -> Tokens:
        if 'text.extra.clauses' not in model.reads:
            return words_of(draw_lengths(size, width) // 3, width)
        third = width // (1 + CLAUSES)
        lengths = draw_lengths(size, third) // 3
        clauses = [words_of(lengths // 2, third) for _ in range(CLAUSES)]
        return side_by_side([words_of(lengths, third), *clauses])

    return dict(
        images=torch.randn(size, 3, rows, columns),
        tokens=draw_tokens(),
        second_tokens=draw_tokens(),
        labels=torch.arange(size) // 2,
        segmentation=torch.randint(0, 1 + PARTS, (size, rows // 8, columns // 8)),
        attribute_tokens=side_by_side(
            [words_of(torch.randint(0, 6, (size,)), ATTRIBUTE_WORDS) for _ in range(PARTS)]
        ),
    )


def words_of(lengths: Tensor, width: int) -> Tokens:
    """Captions of some lengths (T,) in rows of some width."""
    mask = torch.arange(width) < lengths[:, None]
    ids = torch.randint(1, WORDS, mask.shape) * mask
    return Tokens(ids, mask, (lengths - 1).clamp(min=0))


def side_by_side(parts: list[Tokens]) -> Tokens:
    """Rows of several texts each; the first one's end is theirs."""
    ids, mask = (torch.cat([getattr(p, name) for p in parts], dim=1) for name in ('ids', 'mask'))
    return Tokens(ids, mask, parts[0].end)


def kept_by(loss_of: Callable[[], Tensor], parameters: list[Tensor]) -> tuple[float, float, float]:
    """MiB that a forward pass keeps, the loss, and the length of all gradients."""
    with LiveStorages(parameters) as live:
        loss = loss_of()
        kept = live.mebibytes()
    loss.backward()
    return (
        kept,
        loss.item(),
        math.hypot(*(p.grad.norm().item() for p in parameters if p.grad is not None)),
    )


def add_rows(report: Report, method: str, size: int, repeats: int) -> None:
    """Compares one method and takes its times."""
    model = build(method)
    batch, reference = draw_batch(model, size), METHODS[method][1](model)

    def our_loss() -> Tensor:
        return model.parse_losses(model(**batch, mode='loss'))[0]

    (our_kept, *found), (their_kept, *expected) = (
        kept_by(loss, [*net.parameters(), *net.buffers()])
        for loss, net in ((our_loss, model), (lambda: reference(batch), reference))
    )
    for name, one, other in zip(('loss', 'length of gradients'), found, expected, strict=True):
        report.check(f'{method}: {name}', abs(one / other - 1), 1e-4)
    own = own_optimizer(model)
    plain = getattr(reference, 'optimizer', torch.optim.Adam)(reference.groups(), lr=1e-3)

    def ours() -> None:
        own.zero_grad()
        our_loss().backward()

    def theirs() -> None:
        plain.zero_grad()
        reference(batch).backward()

    def our_update() -> None:
        own.step()
        for head in model.heads.values():
            if hasattr(head, 'after_step'):
                head.after_step()

    # The first step of an optimiser allocates its state; of the rest the comparison was the first.
    our_update(), plain.step()
    fast, update, slow, their_update = alternate(repeats, ours, our_update, theirs, plain.step)
    report.add(f'{method}: loss and gradients', fast, slow, 'CPU s', goal=GOAL)
    report.add(f'{method}: step', fast + update, slow + their_update, 'CPU s', goal=GOAL)
    report.add(f'{method}: kept for the gradients', our_kept, their_kept, 'MiB')


def main() -> None:
    args = arguments(__doc__, batch_size=4, repeats=3, only='')
    report = Report(
        f'train step of classic methods on the CPU, float32, batch of {args.batch_size}, 192 x 64'
    )
    for method in METHODS if not args.only else args.only.split(','):
        add_rows(report, method, args.batch_size, args.repeats)
    report.finish(args.json)


if __name__ == '__main__':
    main()
