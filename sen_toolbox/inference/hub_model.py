"""A model of open_clip by name, as a retriever and its processor."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.logging import MMLogger
from torch import nn

from sen_toolbox.hub import HubModel, find_model, find_tokenizer
from sen_toolbox.inference.processor import Processor, plain
from sen_toolbox.messages import one_line
from sen_toolbox.registry import BACKBONES, MODELS

# open_clip's own defaults.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# What open_clip's tokenizers can be told and is done here.
TOKENIZER_KEYS = {'clean', 'strip_sep_token'}


def load_hub_model(name: str, *, download: bool = True) -> tuple[str, nn.Module, Processor]:
    """Name, retriever in float32 and processor of a model of open_clip.

    Pictures and sentences are prepared as ``open_clip.create_model_and_transforms`` and
    ``get_tokenizer`` do, and its own modules embed them.

    Args:
        name: As :func:`~sen_toolbox.hub.find_model` takes it.
        download: Whether to reach the network for what the cache lacks.

    Raises:
        FileNotFoundError: If a file is neither in the cache nor to be had.
        ValueError: If there is no such model, or it is one that cannot be used.
    """
    # Its module imports open_clip without what takes long to import and nobody needs.
    BACKBONES.get('OpenCLIPPair')
    found = find_model(name, download=download)
    try:
        model = MODELS.build(_retriever(found))
    except Exception as error:  # a repository may describe anything
        raise ValueError(f'{found.name} cannot be built: {one_line(error)}') from error
    # What has been found is not looked for again.
    model.backbone.pretrained = str(found.weights)
    with _nothing_logged():
        model.load_weights()
    size = model.backbone.spec.image.image_size
    try:
        steps = [dict(type='LoadImage'), _resize(found, size), _tokenize(found, download)]
        processor = Processor(steps)
    except (TypeError, AttributeError, LookupError) as error:  # likewise
        raise ValueError(f'{found.name} prepares its input by {one_line(error)}') from error
    return found.name, model.eval(), processor


def build_from_name(config: Mapping, name: str) -> nn.Module:
    """The retriever of a config, whose towers have the weights of a model of open_clip.

    Args:
        config: Config of the retriever.
        name: The model.

    Raises:
        FileNotFoundError: If its weights are neither in the cache nor to be had.
        ValueError: If it is another model, or the config ranks by more than towers of open_clip.
    """
    # Imported here because it imports all of MMEngine's training.
    from sen_toolbox.config import start_from

    config = plain(config)
    if start_from(config['backbone'], name) == 0:
        raise ValueError(f'{name} is a model of open_clip, and the config has no tower of it')
    model = MODELS.build(config)
    ranking = {head: model.heads[head] for head in (*model.embedding_heads, *model.scorers)}
    if random := [
        head for head, part in ranking.items() if next(part.parameters(), None) is not None
    ]:
        raise ValueError(f'{name} has no weights for the heads {random}, by which the config ranks')
    with _nothing_logged():
        model.load_weights()
    return model


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """MMEngine's log goes where results go, and a search may write JSON there."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        yield
    finally:
        logger.setLevel(level)


def _retriever(found: HubModel) -> dict[str, Any]:
    mean, std = (_channels(found, key, own) for key, own in (('mean', MEAN), ('std', STD)))
    return dict(
        type='TextImageRetriever',
        backbone=dict(type='OpenCLIPPair', arch=dict(found.config)),
        heads={},
        loss_weights={},
        data_preprocessor=dict(type='PairPreprocessor', mean=mean, std=std),
    )


def _channels(found: HubModel, key: str, default: tuple[float, ...]) -> list[float]:
    value = found.preprocess.get(key) or default
    return [float(v) for v in value] if isinstance(value, list | tuple) else [float(value)] * 3


def _resize(found: HubModel, size: tuple[int, int]) -> dict[str, Any]:
    """The transform that gives open_clip's pixels."""
    interpolation = found.preprocess.get('interpolation') or 'bicubic'
    mode = found.preprocess.get('resize_mode') or 'shortest'
    # open_clip draws one in training alone.
    interpolation = 'bicubic' if interpolation == 'random' else interpolation
    if mode == 'squash':
        return dict(type='ResizeImage', size=size, filter=interpolation)
    if mode == 'shortest' and size[0] == size[1]:
        return dict(type='CropMiddle', side=size[0], filter=interpolation)
    raise ValueError(
        f'{found.name} prepares pictures in a way that is not known here: resize_mode {mode!r} to '
        f'{size[0]} x {size[1]} pixels'
    )


def _tokenize(found: HubModel, download: bool) -> dict[str, Any]:
    """The transform that gives open_clip's tokens."""
    return dict(type='Tokenize', tokenizer=_tokenizer(found, download))


def _tokenizer(found: HubModel, download: bool) -> dict[str, Any]:
    """Config of the tokenizer, with all words in it."""
    text = found.config['text_cfg']
    length = text.get('context_length', 77)
    settings = text.get('tokenizer_kwargs') or {}
    repo = text.get('hf_tokenizer_name')
    if text.get('tokenizer_mode') or not settings.keys() <= TOKENIZER_KEYS:
        raise ValueError(
            f'{found.name} reads sentences in a way that is not known here: tokenizer_mode '
            f'{text.get("tokenizer_mode")!r}, tokenizer_kwargs {settings}'
        )
    if not repo:
        if settings.get('clean', 'lower') != 'lower':
            raise ValueError(f'{found.name} does not lower-case sentences, which is not known here')
        return dict(type='CLIPTokenizer', context_length=length)
    content, pad = find_tokenizer(found, repo, download=download)
    return dict(
        type='LibraryTokenizer',
        context_length=length,
        content=content,
        pad=pad,
        clean=settings.get('clean', 'whitespace'),
        has_end=not settings.get('strip_sep_token', False),
    )
