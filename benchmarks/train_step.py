"""One training step of SEN and IRRA, ViT-B/16 at 384 x 128: ours and the plain reference."""

import torch
from common import Report, alternate, arguments, distance
from plain import optimizer, step_loss
from workload import build, draw_batch

from sen_toolbox.registry import OPTIM_WRAPPER_CONSTRUCTORS

GOALS = dict(sen='1.2x', irra='1.35x')


def own_optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimiser that the config describes."""
    wrapper = model.config.optim_wrapper.to_dict()
    constructor = dict(type=wrapper.pop('constructor'), paramwise_cfg=wrapper.pop('paramwise_cfg'))
    return OPTIM_WRAPPER_CONSTRUCTORS.build(dict(constructor, optim_wrapper_cfg=wrapper))(
        model
    ).optimizer


def steps(method: str, size: int) -> tuple:
    """The model, our step, the reference's step and one of ours in bfloat16."""
    model = build(method)
    batch = draw_batch(size)
    noise = torch.rand(size, model.backbone.spec.image.num_patches)
    if method == 'sen':
        model.heads['restoration'].draw_noise = lambda *_: noise
    own, plain = own_optimizer(model), optimizer(model)

    def our_loss() -> torch.Tensor:
        return model.parse_losses(model(**batch, mode='loss'))[0]

    def ours() -> None:
        own.zero_grad()
        our_loss().backward()
        own.step()

    def reference() -> None:
        plain.zero_grad()
        step_loss(model, batch, noise).backward()
        plain.step()

    def ours_bf16() -> None:
        own.zero_grad()
        with torch.autocast('cpu', torch.bfloat16):
            loss = our_loss()
        loss.backward()
        own.step()

    def compare(report: Report) -> None:
        our_loss().backward()
        own_gradients = {n: p.grad for n, p in model.named_parameters()}
        model.zero_grad()
        step_loss(model, batch, noise).backward()
        pairs = [(own_gradients[n], p.grad) for n, p in model.named_parameters()]
        ours, theirs = (torch.cat([pair[i].flatten() for pair in pairs]) for i in (0, 1))
        report.check(f'{method}: all gradients', distance(ours, theirs), 1e-5)
        worst = max(distance(a, b) for a, b in pairs if b.norm() > 0)
        report.check(f'{method}: gradient of the worst parameter', worst, 1e-4)

    return ours, reference, ours_bf16, compare


def main() -> None:
    args = arguments(__doc__, batch_size=4, repeats=3)
    report = Report(f'train step on the CPU, float32, batch of {args.batch_size}, CPU seconds')
    for method, goal in GOALS.items():
        ours, reference, ours_bf16, compare = steps(method, args.batch_size)
        compare(report)
        # The first step of an optimiser allocates its state.
        ours()
        fast, slow, half = alternate(args.repeats, ours, reference, ours_bf16)
        report.add(f'{method} step', fast, slow, 's', goal=goal)
        report.add(
            f'{method} step, ours bfloat16 against ours float32',
            half,
            fast,
            's',
            goal='1.9x where the CPU has bfloat16',
        )
    report.finish(args.json)


if __name__ == '__main__':
    main()
