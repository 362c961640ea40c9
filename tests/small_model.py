"""A small random model as users have it, and a few crops."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from test_person_search import CONFIG
from tiny import NORMALISE, clip_config

from sen_toolbox.inference.model_file import save_model
from sen_toolbox.registry import MODELS


def write_model_and_crops(root: Path) -> Path:
    """Writes config.py, m.pth, m.safetensors and crops/0.png to 4.png; returns the folder."""
    backbone = clip_config(image_size=(64, 48), layers=1)
    (root / 'config.py').write_text(CONFIG.format(backbone=backbone, normalise=NORMALISE))
    torch.manual_seed(0)
    model = dict(
        type='TextImageRetriever',
        backbone=backbone,
        heads={},
        loss_weights={},
        data_preprocessor=dict(type='PairPreprocessor', **NORMALISE),
    )
    torch.save(dict(state_dict=MODELS.build(model).state_dict()), root / 'm.pth')
    save_model(root / 'config.py', root / 'm.pth', root / 'm.safetensors')
    rng = np.random.default_rng(0)
    (root / 'crops').mkdir()
    for number in range(5):
        pixels = rng.integers(0, 256, (9, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((50, 120)).save(root / 'crops' / f'{number}.png')
    return root
