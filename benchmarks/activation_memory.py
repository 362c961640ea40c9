"""Memory that a forward pass keeps for the backward pass, SEN and IRRA, ViT-B/16."""

import torch
from common import Report, arguments
from plain import step_loss
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from workload import build, draw_batch

GOALS = dict(sen='1.52x', irra='1.59x')
CHECKPOINTED_GOAL = '11.8x'


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


def kept(model: torch.nn.Module, batch: dict, loss_of) -> tuple[float, float]:
    """MiB a sample that one forward pass keeps, and its loss."""
    given = [*model.parameters(), *model.buffers(), *batch.values()]
    with LiveStorages(given) as live:
        loss = loss_of()
        return live.mebibytes() / len(batch['images']), loss.item()


def main() -> None:
    args = arguments(__doc__, batch_size=2)
    report = Report(f'activations, float32, batch of {args.batch_size}')
    for method, goal in GOALS.items():
        model, batch = build(method), draw_batch(args.batch_size)
        noise = torch.rand(args.batch_size, model.backbone.spec.num_patches)
        if method == 'sen':
            model.heads['restoration'].draw_noise = lambda *_, noise=noise: noise

        def ours(model=model, batch=batch) -> torch.Tensor:
            return model.parse_losses(model(**batch, mode='loss'))[0]

        def plain(model=model, batch=batch, noise=noise) -> torch.Tensor:
            return step_loss(model, batch, noise)

        reference, expected = kept(model, batch, plain)
        own, loss = kept(model, batch, ours)
        report.check(f'{method}: loss', abs(loss / expected - 1), 1e-5)
        report.add(f'{method}', own, reference, 'MiB/sample', goal=goal)
        model.backbone.checkpoint_activations = True
        own, loss = kept(model, batch, ours)
        report.check(f'{method}: loss with checkpointing', abs(loss / expected - 1), 1e-5)
        report.add(
            f'{method}, checkpoint_activations=True',
            own,
            reference,
            'MiB/sample',
            goal=CHECKPOINTED_GOAL if method == 'sen' else '',
        )
    report.finish(args.json)


if __name__ == '__main__':
    main()
