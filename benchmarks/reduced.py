"""Copies of a model with narrower weights, for inference."""

import copy
import warnings

import torch
from torch import Tensor, nn

from sen_toolbox.models.blocks import QuickGELU, QuickGELULinear


def in_bfloat16(model: nn.Module) -> nn.Module:
    """A copy whose weights and activations have 16 bits."""
    return copy.deepcopy(model).bfloat16()


def in_int8(model: nn.Module) -> nn.Module:
    """A copy whose linear layers have 8-bit weights and quantise their input as it comes.

    Torch knows linear layers alone, so attention keeps its projections in float32.
    """
    small = copy.deepcopy(model)
    for module in [*small.modules()]:
        if isinstance(getattr(module, 'c_proj', None), QuickGELULinear):
            fused, module.c_proj = module.c_proj, nn.Linear(1, 1)
            module.gelu = QuickGELU()
            module.c_proj.weight, module.c_proj.bias = fused.weight, fused.bias
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        torch.ao.quantization.quantize_dynamic(
            small.backbone, {nn.Linear}, dtype=torch.qint8, inplace=True
        )
    return small


def cosine(ours: Tensor, reference: Tensor) -> float:
    """The least cosine of a pair of rows."""
    return nn.functional.cosine_similarity(ours.float(), reference.float()).min().item()
