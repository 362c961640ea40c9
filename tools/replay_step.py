"""Runs the step again whose loss was not finite, and names the first module that went wrong.

Takes a file nonfinite_iter_N_rank_R.pth of a training's work dir. Prints the loss of each head.
Nothing in the file is executed: its model is built of the toolbox's parts and of those that
--import registers, and reads no file but those of --file.
"""

import argparse
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, is_dataclass
from typing import Any

from sen_toolbox.command_line import read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('dump', help='file that the failed training named')
    parser.add_argument(
        '--import',
        dest='imports',
        action='append',
        default=[],
        metavar='MODULE',
        help='module of a project whose parts the model has, such as projects.mine',
    )
    parser.add_argument(
        '--file',
        dest='files',
        action='append',
        default=[],
        help='file that the model may read, as its config names it: a vocabulary',
    )
    parser.add_argument('--device', help='where to compute; default a GPU if there is one')
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

import torch
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from sen_toolbox.checkpoint.keys import check_fit
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.inference.loading import import_parts
from sen_toolbox.inference.registered import require_registered, without_weight_files
from sen_toolbox.inference.size_limit import at_most
from sen_toolbox.messages import one_line, shown
from sen_toolbox.registry import MODELS
from sen_toolbox.seeding import seed_generators
from sen_toolbox.text.tokens import Tokens

# What a dump holds beside the rest, by the types that it may have.
HELD = {
    'model': (dict,), 'state_dict': (dict, OrderedDict), 'batch': (dict,), 'losses': (dict,),
    'seed': (list,), 'autocast': (str, type(None)), 'device': (str,),
    **dict.fromkeys(('iteration', 'epoch', 'batch_in_epoch', 'rank', 'world_size'), (int,)),
}  # fmt: skip
DTYPES = {None: None, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


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


def read_dump(path: str, files: Sequence[str]) -> dict[str, Any]:
    """The dump of a step that nothing but the toolbox, and what the user named, is needed for.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else, or its model a part that is not registered or a
            file that the user has not named.
    """
    dump = load_checkpoint_file(path, 'cpu')
    wrong = [key for key, kinds in HELD.items() if type(dump.get(key)) not in kinds]
    if wrong:
        raise ValueError(f'{path} is not a dump of a step: it lacks {", ".join(wrong)}')
    if dump['autocast'] not in DTYPES:
        found = shown(dump['autocast'])
        raise ValueError(f'{path}: autocast is one of {list(DTYPES)}, got {found}')
    if len(dump['seed']) != 4 or not all(type(n) is int and 0 <= n < 2**64 for n in dump['seed']):
        raise ValueError(f'{path}: seed is four numbers, got {one_line(dump["seed"])}')
    # The weights are in the dump.
    dump['model'] = without_weight_files(dump['model'])
    try:
        require_registered(dump['model'], files=files)
    except ValueError as error:
        raise ValueError(
            f'{path}: {one_line(error)}; name what is yours by --import MODULE or --file FILE'
        ) from error
    return dump


def run_again(
    path: str, dump: dict[str, Any], device: torch.device
) -> tuple[list[str], dict[str, Tensor]]:
    """What went wrong in the step, the innermost module first, and its losses.

    Raises:
        ValueError: If the dump does not belong together.
    """
    # The dump chooses every argument and every shape, which may make the parts raise anything.
    try:
        with at_most(len(dump['state_dict'])):
            model = MODELS.build(dump['model'])
    except Exception as error:
        raise ValueError(f'{path} has a model that cannot be built: {one_line(error)}') from error
    # Numbers that are not finite may be what is looked for.
    check_fit(model, dump['state_dict'], path)
    model.load_state_dict(dump['state_dict'])
    model.to(device).train()
    found = watch(model)
    seed_generators(*dump['seed'])
    dtype = DTYPES[dump['autocast']]
    context = nullcontext() if dtype is None else torch.autocast(device.type, dtype)
    try:
        with torch.no_grad(), context:
            batch = dict(dump['batch'], tokens=Tokens(**dump['batch']['tokens']))
            losses = model(**model.data_preprocessor(batch, True), mode='loss')
    except Exception as error:
        raise ValueError(f'{path} has a step that cannot be run: {one_line(error)}') from error
    return found, losses


def main() -> None:
    args = parse_args()
    device = torch.device(args.device or get_device())
    import_parts(args.imports)
    dump = read_dump(args.dump, args.files)
    init_default_scope('sen_toolbox')
    found, losses = run_again(args.dump, dump, device)
    damaged = [k for k, value in dump['state_dict'].items() if not is_finite(value)]
    print(f'iteration {dump["iteration"]}, epoch {dump["epoch"]}, batch {dump["batch_in_epoch"]}')
    for name in losses:
        if type(dump['losses'].get(name)) is not float:
            continue
        given, now = dump['losses'][name], float(losses[name])
        print(f'{name:<24} {given:>14.6g} in training {now:>14.6g} now')
    if damaged:
        print(f'not finite before the step already: {len(damaged)} weights, the first {damaged[0]}')
    print(f'first module whose output is not finite: {found[0] if found else "none"}')
    if not found and all(is_finite(value) for value in losses.values()):
        trained_on = one_line(dump['device'])
        print(f'All is finite here; it trained on {trained_on} and this is {device}.')
    if dump['world_size'] > 1:
        print(f'This is the part of rank {dump["rank"]} of {dump["world_size"]}, by itself.')


if __name__ == '__main__':
    run_main(main)
