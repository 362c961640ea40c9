"""Converts SEN checkpoints between the official layout and this toolbox's.

The renaming is the table in sen_toolbox/checkpoint/official.py. Nothing in the file is executed:
tensors, plain containers and argparse namespaces are read, everything else is refused.
"""

import argparse
from pathlib import Path

import torch

from sen_toolbox.checkpoint.keys import check_keys
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.official import sen_from_official, sen_to_official
from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'config', help='config of the model, for instance configs/sen/sen_vitb_cuhk.py'
    )
    parser.add_argument('source', type=Path, help='checkpoint to read')
    parser.add_argument('target', type=Path, help='checkpoint to write')
    parser.add_argument('--to-official', action='store_true', help='convert ours to the official')
    return parser.parse_args()


def read_state(path: Path, entry: str) -> dict[str, torch.Tensor]:
    """The tensors under ``entry`` of a checkpoint, or its top level without such an entry."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = load_checkpoint_file(str(path), map_location='cpu')
    return content.get(entry, content)


def main() -> None:
    args = parse_args()
    model = MODELS.build(load_config(args.config).model)
    if args.to_official:
        state = read_state(args.source, 'state_dict')
        check_keys(model, state, args.source)
        position = model.heads['restoration'].neck.position
        content = dict(model=sen_to_official(state, position))
    else:
        state = sen_from_official(read_state(args.source, 'model'))
        check_keys(model, state, args.source)
        content = dict(state_dict=state, meta={})
    args.target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, args.target)
    print(f'{args.target}: {len(next(iter(content.values())))} tensors')


if __name__ == '__main__':
    main()
