"""Small models and the numbers that the official SEN and IRRA computed for them."""

from pathlib import Path

import numpy as np
import torch

from sen_toolbox.checkpoint.official import irra_from_official, sen_from_official
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


def irra_config(num_classes=20, **backbone) -> dict:
    """IRRA as configs/irra describes it, on the small towers."""
    return dict(
        type='TextImageRetriever',
        backbone=clip_config(**backbone),
        heads=dict(
            sdm=dict(type='MatchingHead', loss=dict(type='SDMLoss', temperature=0.02)),
            identity=dict(type='IdentityHead', num_classes=num_classes),
            mlm=dict(type='MaskedWordHead', neck=dict(type='CrossModalEncoder', depth=4)),
        ),
        loss_weights=dict(sdm=1.0, identity=1.0, mlm=1.0),
        data_preprocessor=dict(type='PairPreprocessor', **NORMALISE),
    )


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


def golden_irra():
    """IRRA with the official weights, and the official batch."""
    model = MODELS.build(irra_config())
    model.load_state_dict(irra_from_official(golden_state('irra_tiny')))
    arrays = {k: torch.from_numpy(v) for k, v in golden('batch', 'irra_tiny').items()}
    batch = dict(
        images=torch.from_numpy(golden('batch')['images']),
        tokens=arrays['caption_ids'],
        pids=arrays['pids'],
        word_labels=arrays['mlm_labels'],
    )
    return model, batch


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
