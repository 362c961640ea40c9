"""Every method as its tiny config describes it, with still smaller towers, in double precision."""

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from toy_data import ROOT

from sen_toolbox.config import load_config
from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS

IMAGE_SIZE, CONTEXT, VOCABULARY, NUM_PIDS = (64, 32), 12, 60, 5
CONFIGS = {
    path.stem.removesuffix('_tiny_synthetic'): path
    for folder in ('configs', 'projects')
    for path in sorted((ROOT / folder).rglob('*_tiny_synthetic.py'))
}
BACKBONES = dict(
    CLIPBackbone=dict(
        arch=dict(
            embed_dim=64,
            quick_gelu=True,
            vision_cfg=dict(layers=2, width=64, patch_size=16),
            text_cfg=dict(
                layers=2, width=64, heads=1, context_length=CONTEXT, vocab_size=VOCABULARY
            ),
        )
    ),
    ResNetLSTM=dict(
        context_length=CONTEXT, embed_dim=16, word_dim=16, hidden_dim=16, vocab_size=VOCABULARY
    ),
)


def tiny_config(method: str) -> Config:
    """The method's config on small towers, without random erasing and the towers' dropout."""
    config = load_config(CONFIGS[method])
    backbone = config.model.backbone
    backbone.pop('text_dropout', None)
    backbone.update(BACKBONES[backbone.type], image_size=IMAGE_SIZE, pretrained=None)
    config.model.data_preprocessor.erasing_prob = 0.0
    return config


def build_model(config: Config, **kwargs) -> nn.Module:
    """The model of a tiny config, the same each time."""
    torch.manual_seed(0)
    return MODELS.build({**config.model, **kwargs}).double().train()


def build_optim_wrapper(config: Config, model: nn.Module, **kwargs) -> OptimWrapper:
    """The config's optimiser and its rules."""
    cfg = {**config.optim_wrapper, **kwargs}
    constructor = dict(
        type=cfg.pop('constructor'), paramwise_cfg=cfg.pop('paramwise_cfg'), optim_wrapper_cfg=cfg
    )
    return OPTIM_WRAPPER_CONSTRUCTORS.build(constructor)(model)


def pair_batch(size: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """A collated batch with what any method reads, and the noise (size, 8) of its patches."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    tokens = 1 + draw(VOCABULARY - 3, size, CONTEXT)
    tokens[:, 0] = VOCABULARY - 2
    end = 2 + draw(CONTEXT - 2, size)
    position = torch.arange(CONTEXT)
    tokens[torch.arange(size), end] = VOCABULARY - 1
    tokens[position > end[:, None]] = 0
    # Some captions have no masked word, others several.
    masked = (draw(3, size, CONTEXT) == 0) & (position < end[:, None]) & (draw(2, size, 1) == 0)
    batch = dict(
        images=draw(256, size, 3, *IMAGE_SIZE).byte(),
        views=draw(256, size, 3, 3, *IMAGE_SIZE).byte(),
        tokens=tokens,
        pids=draw(NUM_PIDS, size),
        word_labels=tokens * masked,
        pair_weights=draw(2, size).double(),
    )
    return batch, torch.rand(size, 8, generator=generator)


class GivenNoise:
    """Stands for ``draw_noise`` and hands out given rows, over and over."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.start = 0

    def __call__(self, count: int, device: torch.device) -> Tensor:
        first, self.start = self.start, (self.start + count) % len(self.rows)
        return self.rows[first : first + count]


def fix_noise(model: nn.Module, rows: Tensor) -> None:
    """Makes the heads that draw masks take these."""
    for head in model.heads.values():
        if hasattr(head, 'draw_noise'):
            head.draw_noise = GivenNoise(rows)


def step_and_gradients(
    model: nn.Module, optim_wrapper: OptimWrapper, batch: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a step logs, and the gradients that the optimiser had."""
    gradients: dict[str, Tensor] = {}

    def keep(*_) -> None:
        named = unwrapped(model).named_parameters()
        gradients.update({name: p.grad.clone() for name, p in named})

    handle = optim_wrapper.optimizer.register_step_pre_hook(keep)
    logged = model.train_step(dict(batch), optim_wrapper)
    handle.remove()
    return {name: value.detach() for name, value in logged.items()}, gradients
