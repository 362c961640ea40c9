"""Writes the trained towers of a checkpoint as a checkpoint of open_clip, OUT.pt or .safetensors.

Beside it OUT.json describes the model, with its image size and caption length. In Python:

  open_clip.add_model_config('out/sen.json')
  model, _, preprocess = open_clip.create_model_and_transforms(
      'sen', pretrained='out/sen.pt', image_resize_mode='squash', image_interpolation='bilinear',
      image_mean=..., image_std=...)
  tokenizer = open_clip.get_tokenizer('sen')

loads it and gives the embeddings that this toolbox gives; the tool prints the call with its values.
Where open_clip has the architecture and captions are of its length, the description is not needed:

  open_clip.create_model_and_transforms(
      'ViT-B-16-quickgelu', pretrained='out/sen.pt', force_image_size=(384, 128), ...)

Without force_image_size open_clip fails on a grid that is not square, or takes one with as many
patches for its own. It cuts patches without overlap, so towers with another stride than their patch
size are refused, as are other encoders. What a head embeds is left out, and what the config's test
pipeline does to a caption before its tokens (CleanCaption of TBPS-CLIP) is to be done before, too.
"""

import argparse
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from sen_toolbox.command_line import read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('out', type=Path, help='file to write, *.pt or *.safetensors')
    args = parser.parse_args(arguments)
    if args.out.suffix not in ('.pt', '.safetensors'):
        parser.error(f'the file must be called *.pt or *.safetensors, not {args.out}')
    return args


read_first(__name__, parse_args)

import torch
from mmengine.config import Config
from torch import Tensor, nn

from sen_toolbox.checkpoint.keys import check_keys
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.tensor_file import pack_tensors
from sen_toolbox.checkpoint.values import weights_in
from sen_toolbox.config import load_config
from sen_toolbox.io import write_atomically
from sen_toolbox.models.open_clip_config import open_clip_config
from sen_toolbox.registry import BACKBONES, HEADS
from sen_toolbox.search.targets import check_target

# What OpenAI's CLIP was trained up to.
CLIP_LOGIT_SCALE = math.log(100)
# What every file of this tool holds: the rows and columns of patches.
GRID = 'grid_size'
# Our prefix, open_clip's.
BACKBONE = 'backbone.'
PREFIXES = {'backbone.image.': 'visual.', 'backbone.text.': ''}


def build_backbone(config: Config) -> nn.Module:
    """The towers of a config, with random weights.

    Raises:
        ValueError: If open_clip cannot have such towers.
    """
    backbone = BACKBONES.build(config.model.backbone)
    kinds = [type(part).__name__ for part in (backbone.image, backbone.text)]
    if kinds != ['CLIPVisionTransformer', 'CLIPTextTransformer']:
        raise ValueError(f"only CLIP's transformers are exported, not {' and '.join(kinds)}")
    if config.model.backbone.get('embed_dim') is not None:
        raise ValueError(
            'open_clip has no projections of both encoders to '
            f'embed_dim={config.model.backbone.embed_dim}'
        )
    image = backbone.spec.image
    if image.patch_stride != image.patch_size:
        raise ValueError(
            f'open_clip has no patches that overlap: stride {image.patch_stride}, patch size '
            f'{image.patch_size}'
        )
    return backbone


def describe(config: Config, backbone: nn.Module) -> dict:
    """open_clip's description of the towers."""
    model = open_clip_config(config.model.backbone.image.arch)
    model['vision_cfg']['image_size'] = list(backbone.spec.image.image_size)
    model['text_cfg']['context_length'] = backbone.spec.text.context_length
    return model


def open_clip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoders of a retriever's state under open_clip's names.

    open_clip demands a ``logit_scale``, which changes no embedding: a learnt one, or CLIP's.
    """
    towers = {
        there + key.removeprefix(here): value.contiguous()
        for here, there in PREFIXES.items()
        for key, value in state.items()
        if key.startswith(here)
    }
    learnt = [value for key, value in state.items() if key.endswith('.logit_scale')]
    return {**towers, 'logit_scale': learnt[0] if learnt else torch.tensor(CLIP_LOGIT_SCALE)}


def write_towers(path: Path, state: dict[str, Tensor], grid_size: tuple[int, int]) -> None:
    """Writes an open_clip checkpoint. The grid is noted, for the way back into a retriever."""
    if path.suffix == '.safetensors':
        content = pack_tensors(state, {GRID: json.dumps(grid_size)})
    else:
        buffer = io.BytesIO()
        torch.save(dict(state_dict=state, meta={GRID: list(grid_size)}), buffer)
        content = buffer.getvalue()
    write_atomically(path, content)


def main() -> None:
    args = parse_args()
    description = args.out.with_suffix('.json')
    check_target(args.out, args.out.suffix, GRID.encode())
    check_target(description, '.json', b'"vision_cfg"')
    config = load_config(args.config)
    backbone = build_backbone(config)
    ours = weights_in(load_checkpoint_file(args.checkpoint, map_location='cpu'), args.checkpoint)
    towers = {k.removeprefix(BACKBONE): v for k, v in ours.items() if k.startswith(BACKBONE)}
    check_keys(backbone, towers, args.checkpoint)
    state = open_clip_state(ours)
    write_towers(args.out, state, backbone.spec.image.grid)
    write_atomically(description, json.dumps(describe(config, backbone), indent=2))
    pixels = config.model.data_preprocessor
    call = f"""open_clip.add_model_config({str(description)!r})
model, _, preprocess = open_clip.create_model_and_transforms(
    {args.out.stem!r}, pretrained={str(args.out)!r},
    image_resize_mode='squash', image_interpolation='bilinear',
    image_mean={tuple(pixels.mean)}, image_std={tuple(pixels.std)})
tokenizer = open_clip.get_tokenizer({args.out.stem!r})"""
    kinds = {name: HEADS.get(head.type) for name, head in config.model.heads.items()}
    if left_out := [name for name, kind in kinds.items() if hasattr(kind, 'embed_image')]:
        print(f'left out: the embeddings of the heads {left_out}')
    print(f'{args.out}: {len(state)} tensors; in Python:\n{call}')


if __name__ == '__main__':
    run_main(main)
