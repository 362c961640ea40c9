"""Memory that a forward pass keeps for the backward pass, SEN and IRRA, ViT-B/16."""

from collections.abc import Callable

import torch
from common import Report, arguments
from plain import step_loss
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from workload import build, draw_batch

GOALS = dict(sen='1.52x', irra='1.59x')
CHECKPOINTED_GOAL = '11.8x'  # at most 0.085 of the reference


class LiveStorages(TorchDispatchMode):
    """Finds all storages that operations made and that are still alive."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.seen = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known:
                    self.seen[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return result

    def mebibytes(self) -> float:
        """What is alive now."""
        return sum(size for ref, size in self.seen.values() if not ref.expired()) / 2**20


def kept(loss_of: Callable, model: nn.Module, batch: dict, *args: torch.Tensor) -> tuple:
    """MiB a sample that one forward pass keeps, and its loss."""
    tokens = vars(batch['tokens']).values()
    rest = [value for key, value in batch.items() if key != 'tokens']
    given = [*model.parameters(), *model.buffers(), *tokens, *rest, *args]
    with LiveStorages(given) as live:
        loss = loss_of(model, batch, *args)
        return live.mebibytes() / len(batch['images']), loss.item()


def own_loss(model: nn.Module, batch: dict) -> torch.Tensor:
    """The objective as training computes it."""
    return model.parse_losses(model(**batch, mode='loss'))[0]


def main() -> None:
    args = arguments(__doc__, batch_size=4)
    report = Report(f'activations, float32, batch of {args.batch_size}')
    for method, goal in GOALS.items():
        model, batch = build(method), draw_batch(args.batch_size)
        noise = torch.rand(args.batch_size, model.backbone.spec.image.num_patches)
        reference, expected = kept(step_loss, model, batch, noise)
        for name, checkpointed, wanted in (
            (method, False, goal),
            (f'{method}, checkpoint_activations=True', True, CHECKPOINTED_GOAL),
        ):
            model = build(method, checkpoint_activations=checkpointed)
            if method == 'sen':
                model.heads['restoration'].draw_noise = lambda *_, noise=noise: noise
            own, loss = kept(own_loss, model, batch)
            report.check(f'{name}: loss', abs(loss / expected - 1), 1e-5)
            report.add(name, own, reference, 'MiB/sample', goal=wanted)
    report.finish(args.json)


if __name__ == '__main__':
    main()
