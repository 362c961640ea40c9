"""Every method as its tiny config describes it, with still smaller towers, in double precision."""

import copy
import functools
import inspect
import random
from collections.abc import Callable, Iterator, Mapping

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from torch import Tensor, nn
from toy_data import ROOT

from sen_toolbox.config import load_config
from sen_toolbox.models.heads.part_ranking import DRAWS
from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import (
    IMAGE_ENCODERS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    TEXT_ENCODERS,
)
from sen_toolbox.text.tokens import Tokens

PER_CAPTION = ('tokens', 'word_labels', 'second_tokens', 'attribute_tokens', 'further_tokens')
IMAGE_SIZE, CONTEXT, VOCABULARY, NUM_LABELS = (64, 32), 12, 60, 5
CONFIGS = {
    path.stem.removesuffix('_tiny_synthetic'): path
    for folder in ('configs', 'projects')
    for path in sorted((ROOT / folder).rglob('*_tiny_synthetic.py'))
}
ARCH = dict(
    embed_dim=64,
    quick_gelu=True,
    vision_cfg=dict(layers=2, width=64, patch_size=16),
    text_cfg=dict(layers=2, width=64, heads=1, context_length=CONTEXT, vocab_size=VOCABULARY),
)
CLIP_RESNET = dict(embed_dim=16, vision_cfg=dict(layers=[1, 1, 1, 1], width=8, head_width=64))
# What other settings of encoders are at most, wherever they stand.
LIMITS = dict(embed_dim=16, word_dim=16, hidden_dim=16, branch_width=16, num_blocks=1)
# As wide as the states of a recurrent encoder, for methods that project both by one matrix.
RESNET = dict(block='basic', blocks=(1, 1, 1, 1), widths=(8, 8, 16, 16), stem=8)
VIT = dict(patch_size=16, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2)
BERT = dict(
    hidden_size=16,
    intermediate_size=16,
    num_attention_heads=2,
    num_hidden_layers=2,
    max_position_embeddings=100,
)
# Pieces of which any word can be made; as many as a word list needs for the captions of tests.
SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
LETTERS = 'abcdefghijklmnopqrstuvwxyz'
PIECES = (*SPECIAL, *LETTERS, *(f'##{letter}' for letter in LETTERS))
WORDS = (
    'a man woman person with red blue white black hair shirt coat trousers shoes bag the is'.split()
)


def tiny_config(method: str, overrides: Mapping | None = None) -> Config:
    """The method's config on smaller encoders, without random erasing and dropout."""
    return _loaded(method, overrides) if overrides else copy.deepcopy(_loaded_once(method))


@functools.cache
def _loaded_once(method: str) -> Config:
    return _loaded(method, None)


def _loaded(method: str, overrides: Mapping | None) -> Config:
    sizes = dict(image_size=IMAGE_SIZE, context_length=CONTEXT)
    config = load_config(CONFIGS[method], {**sizes, **(overrides or {})})
    shrink_encoders(config.model.backbone, lambda arch: ARCH)
    parts = [config.model.backbone, *config.model.heads.values()]
    for part, name, _ in (setting for whole in parts for setting in settings(whole)):
        if name.endswith('dropout') or name == 'drop_path':
            part[name] = 0.0
        elif name == 'mask_ratio':
            part[name] = min(part[name], 0.75)  # two of eight patches are seen
    config.model.data_preprocessor.erasing_prob = 0.0
    return config


def shrink_encoders(backbone: dict, small_arch: Callable[[str | dict], dict]) -> None:
    """Makes the encoders of a backbone's config small, with random weights.

    Args:
        backbone: The config; changed.
        small_arch: Gives the architecture to take in the place of one.
    """
    for kind, registry in (('image', IMAGE_ENCODERS), ('text', TEXT_ENCODERS)):
        if kind in backbone:
            write_out_sizes(backbone[kind], registry)
    for part, name, value in settings(backbone):
        if name == 'arch':
            part[name] = CLIP_RESNET if part.get('type') == 'CLIPResNet' else small_arch(value)
        elif name == 'depth':
            part[name] = RESNET
        elif name == 'name':
            part[name] = VIT
        elif name in ('pretrained', 'word_vectors'):
            part[name] = None
        elif name == 'units':
            few = value[:: max(1, len(value) // 4)]
            part[name] = [(min(inner, 8), min(outer, 16), step) for inner, outer, step in few]
        elif name in LIMITS:
            part[name] = min(value, LIMITS[name])

    replace_vocabularies(backbone)
    text = backbone.get('text', {})
    bert = text.get('bert') or (text if text.get('type', '').endswith('BERT') else None)
    if bert:
        sizes = bert.get('config') or {}
        bert['config'] = BERT | dict(vocab_size=sizes.get('vocab_size', len(PIECES)))
        image = backbone.get('image', {})
        if image.get('projected') is False:
            # Such a tower is as wide as the captions.
            bert['config']['hidden_size'] = image['arch']['vision_cfg']['width']


def write_out_sizes(encoder: dict, registry: Registry) -> None:
    """Adds to an encoder's config the sizes that it has by default."""
    parameters = inspect.signature(registry.get(encoder['type'])).parameters
    for name in parameters.keys() & {'depth', 'units'} - encoder.keys():
        encoder[name] = parameters[name].default


def replace_vocabularies(config: object) -> None:
    """Gives all tokenizers in a config few words in the place of their files."""
    if isinstance(config, dict):
        # The top of a config may have one, too, which tokenizers refer to.
        if 'type' in config and config.pop('vocab_file', None) is not None:
            is_of_pieces = config['type'] == 'WordPieceTokenizer'
            config['vocabulary'] = list(PIECES if is_of_pieces else WORDS)
        config = list(config.values())
    for part in config if isinstance(config, list | tuple) else ():
        replace_vocabularies(part)


def settings(part: dict) -> Iterator[tuple[dict, str, object]]:
    """Each setting of a backbone and its parts: the dict that holds it, its name, its value."""
    for name, value in list(part.items()):
        if isinstance(value, dict) and name not in ('arch', 'depth', 'name'):
            yield from settings(value)
        else:
            yield part, name, value


def build_model(config: Config, **kwargs) -> nn.Module:
    """The model of a tiny config, the same each time."""
    torch.manual_seed(0)
    random.seed(0)
    return MODELS.build({**config.model, **kwargs}).double().train()


def has_batch_norm(method: str) -> bool:
    """Whether the method's images and captions depend on each other before they are compared."""
    return has_part_of_kind(method, nn.modules.batchnorm._BatchNorm)


def has_part_of_kind(method: str, kind: type[nn.Module]) -> bool:
    """Whether one of the method's modules is of this class."""
    return any(issubclass(found, kind) for found in _kinds_of_parts(method))


@functools.cache
def _kinds_of_parts(method: str) -> frozenset[type[nn.Module]]:
    with torch.device('meta'):  # no weights are drawn
        return frozenset(map(type, MODELS.build(tiny_config(method).model).modules()))


def parts_of_kind(model: nn.Module, kind: type[nn.Module]) -> dict[str, nn.Module]:
    """The modules of this class by their name."""
    return {name: part for name, part in model.named_modules() if isinstance(part, kind)}


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

    ids = 1 + draw(VOCABULARY - 3, size, CONTEXT)
    ids[:, 0] = VOCABULARY - 2
    end = 2 + draw(CONTEXT - 2, size)
    position = torch.arange(CONTEXT)
    ids[torch.arange(size), end] = VOCABULARY - 1
    ids[position > end[:, None]] = 0
    # Some captions have no masked word, others several.
    masked = (draw(3, size, CONTEXT) == 0) & (position < end[:, None]) & (draw(2, size, 1) == 0)
    batch = dict(
        images=draw(256, size, 3, *IMAGE_SIZE).byte(),
        views=draw(256, size, 3, 3, *IMAGE_SIZE).byte(),
        tokens=Tokens(ids, position <= end[:, None], end),
        labels=draw(NUM_LABELS, size),
        word_labels=ids * masked,
        pair_weights=draw(2, size).double(),
    )
    noise = torch.rand(size, 8, generator=generator)
    order = torch.randperm(size, generator=generator)
    # Five texts side by side, some of which are empty.
    parts = draw(3, size, 5, 4) > 0
    parts &= draw(4, size, 5, 1) > 0
    lengths = parts.sum(dim=2, keepdim=True)
    parts = (torch.arange(4) < lengths).flatten(1)
    attributes = Tokens(ids.repeat(1, 2)[:, :20] * parts, parts, torch.zeros_like(end))
    batch['attribute_tokens'] = attributes
    # Two images of each person.
    batch['image_id'] = 2 * batch['labels'] + draw(2, size)
    # Two texts as long as the caption side by side, those of two other pairs.
    tokens = batch['tokens']
    others = tokens[order], tokens[order.flip(0)]
    ids, mask = (torch.cat([getattr(x, name) for x in others], 1) for name in ('ids', 'mask'))
    batch['further_tokens'] = Tokens(ids, mask, others[0].end)
    return {**batch, 'second_tokens': tokens[order]}, noise


def with_several_captions(batch: dict, counts: list[int]) -> dict:
    """The captions of a batch of pairs at fewer images, ``counts`` of them at each in turn."""
    image_of = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    per_caption = {name: batch[name] for name in PER_CAPTION}
    per_image = {k: v[: len(counts)] for k, v in batch.items() if k not in per_caption}
    return {**per_image, **per_caption, 'image_of': image_of}


class GivenNoise:
    """Stands for ``draw_noise`` and hands out given rows, over and over."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.start = 0

    def __call__(self, count: int, device: torch.device) -> Tensor:
        first, self.start = self.start, (self.start + count) % len(self.rows)
        return self.rows[first : first + count]


class GivenChoices:
    """Stands for ``draw_choices`` and hands out the same given rows for each ranking."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.noise: dict[str, GivenNoise] = {}

    def __call__(self, name: str, count: int, device: torch.device) -> Tensor:
        return self.noise.setdefault(name, GivenNoise(self.rows))(count, device)


def fix_noise(model: nn.Module, rows: Tensor) -> None:
    """Makes the heads that draw masks take these."""
    for head in model.heads.values():
        if hasattr(head, 'draw_noise'):
            head.draw_noise = GivenNoise(rows)
        if hasattr(head, 'draw_choices'):
            head.draw_choices = GivenChoices(rows[:, :DRAWS])


def step_and_gradients(
    model: nn.Module, optim_wrapper: OptimWrapper, batch: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a step logs, and the gradients that the optimiser had."""
    gradients: dict[str, Tensor] = {}

    def keep(*_) -> None:
        named = unwrapped(model).named_parameters()
        gradients.update({name: p.grad.clone() for name, p in named if p.requires_grad})

    handle = optim_wrapper.optimizer.register_step_pre_hook(keep)
    logged = model.train_step(dict(batch), optim_wrapper)
    handle.remove()
    return {name: value.detach() for name, value in logged.items()}, gradients
