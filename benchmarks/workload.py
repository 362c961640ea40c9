"""Models and batches of the benchmarks: full size, random weights, captions of usual lengths."""

import torch

from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS

CONFIGS = dict(sen='configs/sen/sen_vitb_cuhk.py', irra='configs/irra/irra_vitb_cuhk.py')
START, END = 49406, 49407


def build(method: str, arch: str | None = None, **backbone: object) -> torch.nn.Module:
    """The model of a config with random weights, and the config itself as ``model.config``."""
    torch.manual_seed(0)
    config = load_config(CONFIGS[method])
    config.model.backbone.update(pretrained=None, **backbone)
    if arch is not None:
        config.model.backbone.arch = arch
    model = MODELS.build(config.model)
    model.config = config
    return model


def draw_tokens(count: int) -> torch.Tensor:
    """Token ids (count, 77) of captions: lengths log-normal, mean 29, deviation 9.4, 14 to 77."""
    # Assumed to be those of CUHK-PEDES, start and end token included.
    spread = (torch.tensor((9.4 / 29) ** 2) + 1).log()
    length = torch.exp(torch.randn(count) * spread.sqrt() + torch.tensor(29.0).log() - spread / 2)
    length = length.round().long().clamp(14, 77)
    tokens = torch.randint(1, START, (count, 77))
    place = torch.arange(77)
    tokens[place >= length[:, None]] = 0
    tokens[:, 0] = START
    tokens[torch.arange(count), length - 1] = END
    return tokens


def draw_batch(size: int, *, masked: float = 0.15) -> dict[str, torch.Tensor]:
    """A preprocessed training batch, two pairs an identity, with ``masked`` of the words masked."""
    torch.manual_seed(1)
    tokens = draw_tokens(size)
    words = (tokens > 0) & (tokens < START)
    hidden = words & (torch.rand(tokens.shape) < masked)
    return dict(
        images=torch.randn(size, 3, 384, 128),
        tokens=tokens,
        pids=torch.arange(size) // 2,
        word_labels=tokens * hidden,
    )
