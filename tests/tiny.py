"""Small models and the numbers that the official SEN and IRRA computed for them.

Models are those of the shipped configs; only what the official models of the fixtures differ in is
overridden, so that a changed value in a config fails here.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.models.features import PairFeatures
from sen_toolbox.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from sen_toolbox.text.tokens import Tokens

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).parent / 'data'
NORMALISE = dict(mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711])


def clip_arch(layers=2, patch_size=16, context_length=77) -> dict:
    """The towers of the golden models: widths 128 and 64, embedding 64, one text head."""
    return dict(
        embed_dim=64,
        quick_gelu=True,
        vision_cfg=dict(layers=layers, width=128, patch_size=patch_size),
        text_cfg=dict(
            layers=layers, width=64, heads=1, context_length=context_length, vocab_size=49408
        ),
    )


def clip_config(image_size=(384, 128), layers=2, patch_size=16, *, image=None, text=None) -> dict:
    """A backbone of these towers, with further settings of each encoder."""
    arch = clip_arch(layers, patch_size)
    return dict(
        type='DualEncoder',
        image=dict(type='CLIPVisionTransformer', arch=arch, image_size=image_size, **(image or {})),
        text=dict(type='CLIPTextTransformer', arch=arch, **(text or {})),
    )


def shipped_model(config: str, **overrides) -> dict:
    """Config of the model of a shipped config on the golden towers, without erasing.

    Args:
        config: Its path below the root.
        **overrides: Further values by dotted key.
    """
    small = {
        'clip_arch': clip_arch(),
        'pretrained': None,
        'num_classes': 20,
        'model.data_preprocessor.erasing_prob': 0.0,
    }
    return load_config(ROOT / config, small | overrides).model.to_dict()


def sen_config(num_classes=20, *, backbone=None, **overrides) -> dict:
    """SEN of configs/sen, on the small towers or on another backbone."""
    model = shipped_model('configs/sen/sen_vitb_cuhk.py', num_classes=num_classes, **overrides)
    return model | (dict(backbone=backbone) if backbone else {})


def irra_config(num_classes=20, *, backbone=None, **overrides) -> dict:
    """IRRA of configs/irra, on the small towers or on another backbone."""
    model = shipped_model('configs/irra/irra_vitb_cuhk.py', num_classes=num_classes, **overrides)
    return model | (dict(backbone=backbone) if backbone else {})


def layout(method: str):
    """How the official code of a method under configs/ names its weights."""
    return load_layout(ROOT / 'configs' / method / 'official.py')


def as_tokens(ids: Tensor) -> Tokens:
    """Rows of CLIP's ids (T, L), or of a smaller vocabulary whose last id ends a caption."""
    end = ids.argmax(dim=1)
    return Tokens(ids, torch.arange(ids.shape[1]) <= end[:, None], end)


def golden(group: str, case: str = 'sen_tiny') -> dict[str, np.ndarray]:
    """Arrays of tests/data/<case>.npz: the official code in float32 on the CPU.

    Cases: 'sen_tiny' (SEN 3d887c1); 'sen_mlm_tiny' (the same with masked words, ITC and CMPM as
    well); 'irra_tiny' (IRRA cfc2378, on the images of 'sen_tiny').
    Groups: 'state' (rows of the token embedding that no caption uses are zero), 'batch',
    'expected', 'optim'. Of the vocabulary that predicts masked words about 1200 rows are not zero.
    """
    with np.load(DATA / f'{case}.npz') as arrays:
        return {k.split('/', 1)[1]: arrays[k] for k in arrays if k.startswith(f'{group}/')}


def golden_state(case: str = 'sen_tiny') -> dict[str, torch.Tensor]:
    """The official weights under their official names."""
    return {k: torch.from_numpy(v) for k, v in golden('state', case).items()}


def golden_batch(case: str = 'sen_tiny') -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The official batch, and the noise (B, N) of its patches."""
    arrays = {k: torch.from_numpy(v) for k, v in golden('batch', case).items()}
    batch = dict(
        images=arrays['images'], tokens=as_tokens(arrays['caption_ids']), labels=arrays['pids']
    )
    # The release also draws a value for the class token, without effect.
    return batch, arrays['noise'][:, 1:]


def golden_sen(**overrides):
    """SEN with the official weights and the official masks."""
    model = MODELS.build(sen_config(**overrides))
    model.load_state_dict(layout('sen').from_official(golden_state()))
    _, noise = golden_batch()
    model.heads['restoration'].draw_noise = lambda batch_size, device: noise
    return model


def golden_irra(**overrides):
    """IRRA with the official weights, and the official batch."""
    model = MODELS.build(irra_config(**overrides))
    model.load_state_dict(layout('irra').from_official(golden_state('irra_tiny')))
    arrays = {k: torch.from_numpy(v) for k, v in golden('batch', 'irra_tiny').items()}
    batch = dict(
        images=torch.from_numpy(golden('batch')['images']),
        tokens=as_tokens(arrays['caption_ids']),
        labels=arrays['pids'],
        word_labels=arrays['mlm_labels'],
    )
    return model, batch


def all_features(model: torch.nn.Module, batch: dict) -> PairFeatures:
    """Everything that the backbone of a model can say of a batch."""
    return model.backbone(batch['images'], batch['tokens'], model.backbone.provides)


def build_optimizer(optim_wrapper: dict, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimiser that a config describes, with its rules."""
    wrapper = dict(optim_wrapper)
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type=wrapper.pop('constructor'),
            paramwise_cfg=wrapper.pop('paramwise_cfg'),
            optim_wrapper_cfg=wrapper,
        )
    )
    return constructor(model).optimizer
