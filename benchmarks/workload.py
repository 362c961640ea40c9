"""Models and batches of the benchmarks: full size, random weights, captions of usual lengths."""

import torch

from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS
from sen_toolbox.text.tokenizers import CLIPTokenizer
from sen_toolbox.text.tokens import Tokens

CONFIGS = dict(sen='configs/sen/sen_vitb_cuhk.py', irra='configs/irra/irra_vitb_cuhk.py')
SPECIAL, WORDS = CLIPTokenizer.special, CLIPTokenizer.words


def build(method: str, **overrides: object) -> torch.nn.Module:
    """The model of a config with random weights, and the config itself as ``model.config``.

    Args:
        method: A key of ``CONFIGS``.
        **overrides: Values of the config by key, e.g. ``clip_arch``, or of the model by name.
    """
    torch.manual_seed(0)
    config = load_config(CONFIGS[method])
    top = {key: value for key, value in overrides.items() if key in config}
    model = {f'model.{key}': value for key, value in overrides.items() if key not in config}
    config = load_config(CONFIGS[method], {'pretrained': None, **top, **model})
    built = MODELS.build(config.model)
    built.config = config
    return built


def draw_lengths(count: int, longest: int) -> torch.Tensor:
    """Lengths (count,) of captions: log-normal, mean 29, deviation 9.4, 14 to ``longest``."""
    # Assumed to be those of CUHK-PEDES, start and end token included.
    spread = (torch.tensor((9.4 / 29) ** 2) + 1).log()
    length = torch.exp(torch.randn(count) * spread.sqrt() + torch.tensor(29.0).log() - spread / 2)
    return length.round().long().clamp(14, longest)


def draw_tokens(count: int) -> Tokens:
    """Captions of up to 77 tokens."""
    length = draw_lengths(count, 77)
    ids = torch.randint(WORDS.start, WORDS.stop, (count, 77))
    mask = torch.arange(77) < length[:, None]
    ids[~mask] = SPECIAL.pad
    ids[:, 0] = SPECIAL.start
    ids[torch.arange(count), length - 1] = SPECIAL.end
    return Tokens(ids, mask, length - 1)


def draw_batch(size: int, *, masked: float = 0.15) -> dict[str, torch.Tensor | Tokens]:
    """A preprocessed training batch, two pairs an identity, with ``masked`` of the words masked."""
    torch.manual_seed(1)
    tokens = draw_tokens(size)
    words = (tokens.ids >= WORDS.start) & (tokens.ids < WORDS.stop)
    hidden = words & (torch.rand(tokens.ids.shape) < masked)
    return dict(
        images=torch.randn(size, 3, 384, 128),
        tokens=tokens,
        labels=torch.arange(size) // 2,
        word_labels=tokens.ids * hidden,
    )
