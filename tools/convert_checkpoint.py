"""Converts official checkpoints of a method to this toolbox's, and back.

The config says which method it is: the file official.py beside it knows the official names. All
weights become float32; keys or shapes that do not match are refused by name, so the image size, the
text length and the number of identities must be those that the checkpoint was trained with.
--to-official goes back, where the method has a way. Nothing in the checkpoint is executed: tensors,
plain containers, numbers and settings are read, all else is refused.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from sen_toolbox.command_line import read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'config', help='config of the model, for instance configs/sen/sen_vitb_cuhk.py'
    )
    parser.add_argument('source', type=Path, help='checkpoint to read')
    parser.add_argument('target', type=Path, help='checkpoint to write')
    parser.add_argument('--to-official', action='store_true', help='convert ours to the official')
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

from mmengine.runner.checkpoint import save_checkpoint
from torch import Tensor, nn

from sen_toolbox.checkpoint.entries import join_entries, split_entries
from sen_toolbox.checkpoint.keys import check_keys
from sen_toolbox.checkpoint.layouts import official_layout
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.values import check_dense, named_faults, weights_in
from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS


def read_state(path: Path, entry: str) -> dict[str, Tensor]:
    """The tensors under ``entry`` of a checkpoint, or its top level without such an entry.

    Raises:
        ValueError: If something else is there; names it.
    """
    content = load_checkpoint_file(str(path), map_location='cpu')
    state = weights_in(content, path, (entry,))
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f'{path} holds no weights under {entry!r}, only {list(state)[:8]}')
    check_dense(state, path)
    return state


def convert_from_official(layout: ModuleType, model: nn.Module, path: Path) -> dict[str, Tensor]:
    """Our state of an official checkpoint.

    Raises:
        ValueError: If it does not fit the model; names the keys and shapes.
    """
    if entries := getattr(layout, 'ENTRIES', None):
        content = load_checkpoint_file(str(path), map_location='cpu')
        official = join_entries(content, entries, path, getattr(layout, 'MAY_LACK', ()))
    else:
        official = read_state(path, getattr(layout, 'ENTRY', 'model'))
    with named_faults(path):
        state = layout.from_official(official)
    check_keys(model, state, path)
    return state


def convert_to_official(layout: ModuleType, model: nn.Module, path: Path) -> dict[str, Tensor]:
    """The official state of a checkpoint of ours.

    Raises:
        ValueError: If it does not fit the model, or the method has no way back.
    """
    if not hasattr(layout, 'to_official'):
        raise ValueError(f'{layout.__file__} has no to_official: there is no way back')
    state = read_state(path, 'state_dict')
    check_keys(model, state, path)
    return layout.to_official(state, model)


def main() -> None:
    args = parse_args()
    if args.target.exists() and args.target.samefile(args.source):
        raise ValueError(f'{args.target} is the checkpoint that is read: give another name')
    config = load_config(args.config)
    layout, model = official_layout(config), MODELS.build(config.model)
    if args.to_official:
        state = convert_to_official(layout, model, args.source)
        single = {getattr(layout, 'ENTRY', 'model'): ''}
        content = split_entries(state, getattr(layout, 'ENTRIES', single))
    else:
        state = convert_from_official(layout, model, args.source)
        content = dict(state_dict=state, meta={})
    save_checkpoint(content, str(args.target))
    print(f'{args.target}: {len(state)} tensors, in float32')


if __name__ == '__main__':
    run_main(main)
