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
size are refused, as are those of OpenCLIPBackbone: open_clip loads them at their own size only.
"""

import argparse
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from open_clip import get_model_config
from safetensors.torch import save
from torch import Tensor, nn

from sen_toolbox.checkpoint.keys import check_keys
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.saving import AtomicLocalBackend
from sen_toolbox.config import load_config
from sen_toolbox.models.backbones import CLIPBackbone
from sen_toolbox.registry import BACKBONES

# What OpenAI's CLIP was trained up to.
CLIP_LOGIT_SCALE = math.log(100)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('out', type=Path, help='file to write, *.pt or *.safetensors')
    args = parser.parse_args(arguments)
    if args.out.suffix not in ('.pt', '.safetensors'):
        parser.error(f'the file must be called *.pt or *.safetensors, not {args.out}')
    return args


def build_backbone(config: Config) -> nn.Module:
    """The towers of a config, with random weights.

    Raises:
        ValueError: If open_clip cannot have such towers.
    """
    backbone = BACKBONES.build({**config.model.backbone, 'pretrained': None})
    if not isinstance(backbone, CLIPBackbone):
        raise ValueError(f'only CLIPBackbone is exported, not {type(backbone).__name__}')
    if backbone.spec.stride != backbone.spec.patch_size:
        raise ValueError(
            f'open_clip has no patches that overlap: stride {backbone.spec.stride}, patch size '
            f'{backbone.spec.patch_size}'
        )
    return backbone


def describe(config: Config, backbone: nn.Module) -> dict:
    """open_clip's description of the towers."""
    arch = config.model.backbone.arch
    model = get_model_config(arch) if isinstance(arch, str) else arch.to_dict()
    model['vision_cfg']['image_size'] = list(backbone.spec.image_size)
    model['text_cfg']['context_length'] = backbone.spec.context_length
    return model


def open_clip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The towers of a retriever's state under open_clip's names.

    open_clip demands a ``logit_scale``, which changes no embedding: a learnt one, or CLIP's.
    """
    towers = {
        key.removeprefix('backbone.'): value.contiguous()
        for key, value in state.items()
        if key.startswith('backbone.')
    }
    learnt = [value for key, value in state.items() if key.endswith('.logit_scale')]
    return {**towers, 'logit_scale': learnt[0] if learnt else torch.tensor(CLIP_LOGIT_SCALE)}


def write_towers(path: Path, state: dict[str, Tensor], grid_size: tuple[int, int]) -> None:
    """Writes an open_clip checkpoint. The grid is noted, for the way back into a retriever."""
    if path.suffix == '.safetensors':
        content = save(state, dict(grid_size=json.dumps(grid_size)))
    else:
        buffer = io.BytesIO()
        torch.save(dict(state_dict=state, meta=dict(grid_size=list(grid_size))), buffer)
        content = buffer.getvalue()
    AtomicLocalBackend().put(content, path)


def main() -> None:
    args = parse_args()
    config = load_config(args.config)
    backbone = build_backbone(config)
    content = load_checkpoint_file(args.checkpoint, map_location='cpu')
    state = open_clip_state(content.get('state_dict', content))
    towers = {key: value for key, value in state.items() if key != 'logit_scale'}
    check_keys(backbone, towers, args.checkpoint)
    write_towers(args.out, state, backbone.spec.grid_size)
    description = args.out.with_suffix('.json')
    AtomicLocalBackend().put_text(json.dumps(describe(config, backbone), indent=2), description)
    pixels = config.model.data_preprocessor
    call = f"""open_clip.add_model_config({str(description)!r})
model, _, preprocess = open_clip.create_model_and_transforms(
    {args.out.stem!r}, pretrained={str(args.out)!r},
    image_resize_mode='squash', image_interpolation='bilinear',
    image_mean={tuple(pixels.mean)}, image_std={tuple(pixels.std)})
tokenizer = open_clip.get_tokenizer({args.out.stem!r})"""
    print(f'{args.out}: {len(state)} tensors; in Python:\n{call}')


if __name__ == '__main__':
    main()
