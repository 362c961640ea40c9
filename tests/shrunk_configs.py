"""Every config of the repository, with encoders that build and run in a moment."""

from pathlib import Path

from mmengine.config import Config

from sen_toolbox.config import load_config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ('configs/*/*.py', 'projects/*/configs/*.py')
    for path in ROOT.glob(pattern)
    if path.name != 'official.py' and '_base_' not in path.parts
)
CONTEXT = 20
CLIP_VISION = dict(layers=1, width=64, patch_size=16)
# timm's smallest, as open_clip names it.
TIMM_VISION = dict(
    timm_model_name='test_vit',
    timm_model_pretrained=False,
    timm_pool='token',
    timm_proj=None,
    image_size=160,
)
ARCH = dict(
    embed_dim=64,
    quick_gelu=True,
    vision_cfg=CLIP_VISION,
    text_cfg=dict(layers=1, width=64, heads=1, context_length=CONTEXT, vocab_size=49408),
)
# Smaller values of what a config has at its top, and of arguments of other encoders. Of 24 patches
# the highest mask ratio of a config leaves some.
TOP = dict(
    image_size=(96, 64), context_length=CONTEXT, num_classes=12, pretrained=None, clip_arch=ARCH
)
ENCODERS = {
    'OpenCLIPImageEncoder': dict(arch=dict(ARCH, vision_cfg=TIMM_VISION)),
    'ResNet': dict(depth=10),
    'RecurrentTextEncoder': dict(word_dim=16, hidden_dim=16),
}


def shrunk(path: str) -> Config:
    """A config with small encoders of the same kinds, which start from no file.

    Args:
        path: Of the config, below the root; one of ``CONFIGS``.
    """
    given = load_config(ROOT / path)
    config = load_config(ROOT / path, {k: v for k, v in TOP.items() if k in given})
    _shrink(config.model)
    return config


def _shrink(value: object) -> None:
    if isinstance(value, dict):
        value.update(ENCODERS.get(value.get('type'), {}))
        if 'pretrained' in value:
            value['pretrained'] = None
        for item in value.values():
            _shrink(item)
