"""A small RDE, and what the official code computed for it."""

import json

import numpy as np
import torch
from tiny import DATA, as_tokens, layout, shipped_model

from sen_toolbox.registry import MODELS

ARCH = dict(
    embed_dim=32,
    quick_gelu=True,
    vision_cfg=dict(layers=2, width=128, patch_size=16),
    text_cfg=dict(layers=2, width=64, heads=2, context_length=20, vocab_size=60),
)


def rde_config(width=48, **overrides) -> dict:
    """RDE of configs/rde, on towers of 2 layers and a vocabulary of 60."""
    sizes = {
        'clip_arch': ARCH,
        'image_size': (64, 32),
        'context_length': 20,
        'model.heads.tse.neck.width': width,
    }
    return shipped_model('configs/rde/rde_vitb_cuhk.py', **sizes, **overrides)


def golden(group: str) -> dict[str, np.ndarray]:
    """Arrays of tests/data/rde_official.npz.

    Computed by QinYang79/RDE b3fd396 on the CPU, with its ``.cuda()`` and ``.half()`` taken out and
    0.3, 0.1 and 0.015 for token ratio, margin and temperature. Groups:

    - 'loss': ``compute_per_loss`` and ``compute_rbs`` of model/objectives.py, with gradients.
    - 'model': ``RDE`` of model/build.py on the towers of ``rde_config``: ``compute_per_loss``,
      ``encode_*_tse`` and the similarity of ``Evaluator.eval`` in evaluation mode, ``forward`` and
      its gradients in training mode. There ``topk`` chooses among padding tokens of equal
      attention as it likes; for the fixture it took the earlier ones.
    - 'division': ``get_loss`` of processor/processor.py (its mixtures are scikit-learn 1.9.1's) for
      given losses; the divisions were the same for eight seeds.
    - 'split_prob': the function of that name there.
    - 'aug': ``ImageTextDataset.txt_data_aug`` of datasets/bases.py after ``random.seed(9)``.
    - 'noise': ``inject_noisy_correspondence`` there after ``np.random.seed(4)``: which caption each
      of 101 pairs has at a rate of 0.5.
    """
    with np.load(DATA / 'rde_official.npz') as arrays:
        return {k.split('/', 1)[1]: arrays[k] for k in arrays if k.startswith(f'{group}/')}


def official_state() -> dict[str, torch.Tensor]:
    """The official weights: drawn by the order of their names, here as for the fixture."""
    arrays = golden('model')
    shapes = zip(arrays['state_names'].tolist(), arrays['state_shapes'].tolist(), strict=True)
    rng = np.random.RandomState(11)
    state = {}
    for name, shape in sorted((name, json.loads(shape)) for name, shape in shapes):
        value = rng.standard_normal(tuple(shape))
        if name.endswith('running_var'):
            value = np.abs(value) + 0.5
        elif name.endswith('weight') and ('ln_' in name or '.bns.' in name):
            value = 1 + 0.1 * value
        elif value.ndim > 1:
            value *= value.shape[-1] ** -0.5
        else:
            value *= 0.1
        state[name] = torch.from_numpy(value).float()
        if name.endswith('running_mean'):
            state[name.replace('running_mean', 'num_batches_tracked')] = torch.tensor(0)
    return state


def golden_rde(**overrides):
    """RDE with the official weights."""
    model = MODELS.build(rde_config(**overrides))
    model.load_state_dict(layout('rde').from_official(official_state()))
    return model


def golden_batch() -> dict[str, torch.Tensor]:
    """The official batch; captions of 1 to 18 words, of which the five most attended count."""
    arrays = golden('model')
    images = np.random.RandomState(12).standard_normal((6, 3, 64, 32))
    return dict(
        images=torch.from_numpy(images).float(),
        tokens=as_tokens(torch.from_numpy(arrays['tokens'])),
        labels=torch.from_numpy(arrays['pids']),
        pair_weights=torch.from_numpy(arrays['label_hat']),
    )
