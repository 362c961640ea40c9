"""Towers with random weights, and what computes the same with less: ONNX, 16 bits and 8 bits."""

import copy
import json
import os
from pathlib import Path

import torch
from common import Report, distance
from safetensors.torch import save_file
from torch import Tensor, nn
from workload import CONFIGS

from sen_toolbox.config import load_config
from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.inference.model_file import build_model, describe_model
from sen_toolbox.inference.onnx_encoder import OnnxEncoder
from sen_toolbox.inference.onnx_export import export_onnx


def on_one_core() -> None:
    """Limits torch, and encoders made later, to one thread: one that waits counts as CPU time."""
    torch.set_num_threads(1)
    os.environ['OMP_NUM_THREADS'] = '1'


def random_towers(folder: str | Path) -> Encoder:
    """ViT-B/16's towers with random weights, by way of a model file in the folder."""
    description = describe_model(load_config(CONFIGS['sen']), 'random')
    torch.manual_seed(0)
    model, _ = build_model(description)
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    path = Path(folder) / 'random.safetensors'
    save_file(tensors, path, {'sen_toolbox': json.dumps(description)})
    return load_encoder(path)


def in_bfloat16(model: nn.Module) -> nn.Module:
    """A copy whose weights and activations have 16 bits."""
    return copy.deepcopy(model).bfloat16()


def in_onnx(towers: Encoder, folder: str | Path, *, int8: bool = False) -> OnnxEncoder:
    """What ``sen-search export`` makes of the towers, read back; the file stays in the folder."""
    path = Path(folder) / ('int8.onnx' if int8 else 'float32.onnx')
    export_onnx(towers, path, int8=int8)
    return OnnxEncoder(path)


def add_rows(
    report: Report,
    found: dict[str, Tensor],
    expected: Tensor,
    times: list[float],
    goals: dict[str, str],
) -> None:
    """A row and a check for each way to compute the same features.

    Args:
        report: Where they go.
        found: Features (n, D) by the name of the way; those of exact ways may differ by rounding.
        expected: Features (n, D) of the reference.
        times: CPU milliseconds of the reference, then of each way.
        goals: Goals by the name of the way.
    """
    reference, *times = times
    for (name, features), ours in zip(found.items(), times, strict=True):
        what = name
        if name.endswith('exact'):
            report.check(name, distance(features, expected), 1e-5)
        else:
            least = nn.functional.cosine_similarity(features.float(), expected).min().item()
            what += f' (least cosine {least:.5f})'
            report.check(f'{name}, 1 - cosine', 1 - least, 0.01)
        report.add(what, ours, reference, 'CPU ms', goal=goals.get(name, ''))
