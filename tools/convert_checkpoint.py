"""Converts official checkpoints of SEN, IRRA, RDE and TBPS-CLIP to this toolbox's, and back.

The config says which method it is. All weights become float32; keys or shapes that do not match
are refused by name, so the image size, the text length and the number of identities must be those
that the checkpoint was trained with. --to-official goes back (SEN, IRRA, RDE). Nothing in the file
is executed: tensors, plain containers, numbers and settings are read, all else is refused.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.runner.checkpoint import save_checkpoint
from torch import Tensor, nn

from sen_toolbox.checkpoint.keys import check_keys
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.official import (
    irra_from_official,
    irra_to_official,
    sen_from_official,
    sen_to_official,
)
from sen_toolbox.checkpoint.rde import rde_from_official, rde_to_official
from sen_toolbox.checkpoint.tbps_clip import tbps_clip_from_official
from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS

METHODS = {
    'SEN': (sen_from_official, sen_to_official),
    'IRRA': (irra_from_official, irra_to_official),
    'RDE': (rde_from_official, rde_to_official),
    'TBPS-CLIP': (tbps_clip_from_official, None),
}
# The head that tells a method. IRRA, whose layout the others extend, may be without any of them.
MARKS = {'RestorationHead': 'SEN', 'TokenSelectionHead': 'RDE', 'ScaledMatchingHead': 'TBPS-CLIP'}


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', help='config of the model, for instance configs/sen/sen_vitb_cuhk.py'
    )
    parser.add_argument('source', type=Path, help='checkpoint to read')
    parser.add_argument('target', type=Path, help='checkpoint to write')
    parser.add_argument('--to-official', action='store_true', help='convert ours to the official')
    return parser.parse_args(arguments)


def method_of(model: nn.Module) -> str:
    """The method whose official layout goes with the heads of a model."""
    heads = {type(head).__name__ for head in model.heads.values()}
    return next((method for head, method in MARKS.items() if head in heads), 'IRRA')


def read_state(path: Path, entry: str) -> dict[str, Tensor]:
    """The tensors under ``entry`` of a checkpoint, or its top level without such an entry.

    Raises:
        ValueError: If something else is there; names it.
    """
    content = load_checkpoint_file(str(path), map_location='cpu')
    state = content.get(entry, content) if isinstance(content, Mapping) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f'{path} holds no weights under {entry!r}, only {list(state)[:8]}')
    return state


def convert_from_official(model: nn.Module, path: Path) -> dict[str, Tensor]:
    """Our state of an official checkpoint.

    Raises:
        ValueError: If it does not fit the model; names the keys and shapes.
    """
    from_official, _ = METHODS[method_of(model)]
    state = from_official(read_state(path, 'model'))
    check_keys(model, state, path)
    return state


def convert_to_official(model: nn.Module, path: Path) -> dict[str, Tensor]:
    """The official state of a checkpoint of ours.

    Raises:
        ValueError: If it does not fit the model, or the method has no way back.
    """
    method = method_of(model)
    _, to_official = METHODS[method]
    if to_official is None:
        known = [name for name, (_, back) in METHODS.items() if back]
        raise ValueError(f'{method} is not converted to its official layout, only {known}')
    state = read_state(path, 'state_dict')
    check_keys(model, state, path)
    if method == 'SEN':
        # Saved by the release, though fixed.
        return to_official(state, model.heads['restoration'].neck.position)
    return to_official(state)


def main() -> None:
    args = parse_args()
    model = MODELS.build(load_config(args.config).model)
    if args.to_official:
        state = convert_to_official(model, args.source)
        content = dict(model=state)
    else:
        state = convert_from_official(model, args.source)
        content = dict(state_dict=state, meta={})
    save_checkpoint(content, str(args.target))
    print(f'{args.target}: {len(state)} tensors of {method_of(model)}, in float32')


if __name__ == '__main__':
    main()
