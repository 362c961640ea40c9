"""Small models and the numbers that the official SEN computed for one of them."""

from pathlib import Path

import numpy as np
import torch

from sen_toolbox.checkpoint.official import sen_from_official
from sen_toolbox.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS

DATA = Path(__file__).parent / 'data'
NORMALISE = dict(mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711])


def clip_config(image_size=(384, 128), layers=2, patch_size=16, **kwargs) -> dict:
    """The towers of the golden models: widths 128 and 64, embedding 64, one text head."""
    return dict(
        type='CLIPBackbone',
        arch=dict(
            embed_dim=64,
            quick_gelu=True,
            vision_cfg=dict(layers=layers, width=128, patch_size=patch_size),
            text_cfg=dict(layers=layers, width=64, heads=1, context_length=77, vocab_size=49408),
        ),
        image_size=image_size,
        **kwargs,
    )


def sen_config(num_classes=20, **backbone) -> dict:
    """SEN as configs/sen describes it, on the small towers."""
    return dict(
        type='TextImageRetriever',
        backbone=clip_config(**backbone),
        heads=dict(
            sdm=dict(type='MatchingHead', loss=dict(type='SDMLoss', temperature=0.02)),
            identity=dict(type='IdentityHead', num_classes=num_classes),
            triplet=dict(type='MatchingHead', loss=dict(type='HardestTripletLoss', margin=0.05)),
            restoration=dict(
                type='RestorationHead',
                neck=dict(type='TextGuidedDecoder', depth=4),
                loss=dict(type='MaskedPixelLoss'),
                mask_ratio=0.7,
            ),
        ),
        loss_weights=dict(sdm=1.0, identity=1.0, triplet=10.0, restoration=10.0),
        data_preprocessor=dict(type='PairPreprocessor', **NORMALISE),
    )


def golden(group: str) -> dict[str, np.ndarray]:
    """Arrays of tests/data/sen_tiny.npz: official SEN 3d887c1 in float32 on the CPU.

    Groups: 'state' (rows of the token embedding that no caption uses are zero), 'batch',
    'expected', 'optim'.
    """
    with np.load(DATA / 'sen_tiny.npz') as arrays:
        return {k.split('/', 1)[1]: arrays[k] for k in arrays if k.startswith(f'{group}/')}


def golden_state() -> dict[str, torch.Tensor]:
    """The official weights under their official names."""
    return {k: torch.from_numpy(v) for k, v in golden('state').items()}


def golden_batch() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The official batch, and the noise (B, N) of its patches."""
    arrays = {k: torch.from_numpy(v) for k, v in golden('batch').items()}
    batch = dict(images=arrays['images'], tokens=arrays['caption_ids'], pids=arrays['pids'])
    # The release also draws a value for the class token, without effect.
    return batch, arrays['noise'][:, 1:]


def golden_sen():
    """SEN with the official weights and the official masks."""
    model = MODELS.build(sen_config())
    model.load_state_dict(sen_from_official(golden_state()))
    _, noise = golden_batch()
    model.heads['restoration'].draw_noise = lambda batch_size, device: noise
    return model


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
