"""Runs the step again whose loss was not finite, and names the first module that went wrong.

Takes a file nonfinite_iter_N_rank_R.pth of a training's work dir. Prints the loss of each head.
"""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, is_dataclass
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.registry import MODELS
from sen_toolbox.seeding import seed_generators


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('dump', help='file that the failed training named')
    parser.add_argument('--device', help='where to compute; default a GPU if there is one')
    return parser.parse_args(arguments)


def tensors(value: Any) -> list[Tensor]:
    """All tensors of numbers with a fraction in nested containers."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if is_dataclass(value):
        value = asdict(value)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [found for item in value for found in tensors(item)]
    return []


def is_finite(value: Any) -> bool:
    return all(tensor.isfinite().all() for tensor in tensors(value))


def watch(model: nn.Module) -> list[str]:
    """A list that receives what went wrong, the innermost module first."""
    found: list[str] = []

    def look(name: str):
        def hook(module, args, kwargs, output):
            if not is_finite(output):
                source = 'finite' if is_finite((args, kwargs)) else 'not finite either'
                found.append(f'{name} ({type(module).__name__}), its input is {source}')

        return hook

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(look(name), with_kwargs=True)
    return found


def main() -> None:
    args = parse_args()
    device = torch.device(args.device or get_device())
    dump = load_checkpoint_file(args.dump, 'cpu')
    init_default_scope('sen_toolbox')
    dump['model']['backbone']['pretrained'] = None
    model = MODELS.build(dump['model'])
    model.load_state_dict(dump['state_dict'])
    model.to(device).train()
    damaged = [k for k, value in dump['state_dict'].items() if not is_finite(value)]
    found = watch(model)
    seed_generators(*dump['seed'])
    dtype = dump['autocast']
    context = torch.autocast(device.type, getattr(torch, dtype)) if dtype else nullcontext()
    with torch.no_grad(), context:
        batch = model.data_preprocessor(dump['batch'], True)
        losses = model(**batch, mode='loss')
    print(f'iteration {dump["iteration"]}, epoch {dump["epoch"]}, batch {dump["batch_in_epoch"]}')
    for name, value in dump['losses'].items():
        print(f'{name:<24} {value:>14.6g} in training {float(losses[name]):>14.6g} now')
    if damaged:
        print(f'not finite before the step already: {len(damaged)} weights, the first {damaged[0]}')
    print(f'first module whose output is not finite: {found[0] if found else "none"}')
    if not found and all(is_finite(value) for value in losses.values()):
        print(f'All is finite here; it trained on {dump["device"]} and this is {device}.')
    if dump['world_size'] > 1:
        print(f'This is the part of rank {dump["rank"]} of {dump["world_size"]}, by itself.')


if __name__ == '__main__':
    main()
