"""Model files: a retriever, its processor and all they need, in one safetensors file.

The file's metadata holds, under ``sen_toolbox``, a JSON object with the keys of ``KEYS``; the
tensors are those of the backbone and of the heads whose embeddings count. Nothing in a file is
executed, and every part that it names must be one of the registered.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.checkpoint.keys import check_fit
from sen_toolbox.checkpoint.known_words import WORD_IDS, spread_words
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.tensor_file import pack_tensors
from sen_toolbox.checkpoint.values import weights_in
from sen_toolbox.hub import is_hub_name
from sen_toolbox.inference.outline import NothingDrawn, without_numbers
from sen_toolbox.inference.processor import Processor, plain
from sen_toolbox.inference.registered import require_registered, without_weight_files
from sen_toolbox.inference.size_limit import TooManyError, at_most
from sen_toolbox.inference.usual_scores import UsualScores, checked_usual_scores
from sen_toolbox.io import write_atomically
from sen_toolbox.messages import one_line, shown
from sen_toolbox.registry import HEADS, MODELS
from sen_toolbox.text.tokens import check_fit as check_tokenizer

if TYPE_CHECKING:
    from mmengine.config import Config

FORMAT = 3
KEYS = {'format', 'name', 'model', 'steps', 'usual_scores'}
# Key of the description in the metadata of the file.
METADATA = 'sen_toolbox'
# Only needed to train.
TRAINING_OPTIONS = ('chunks', 'checkpoint_activations', 'compile_blocks')


class LoadedModel(NamedTuple):
    """A trained model, ready to embed.

    Attributes:
        name: What it is called in messages.
        model: The retriever, in float32, for evaluation.
        processor: Prepares its input.
        usual_scores: See :mod:`~sen_toolbox.inference.usual_scores`.
    """

    name: str
    model: nn.Module
    processor: Processor
    usual_scores: UsualScores


def describe_model(config: 'Config', name: str, usual_scores: UsualScores = ()) -> dict[str, Any]:
    """What a model file says of the model of a config, as plain JSON values.

    Heads without embeddings stay out, those that score candidates too: a search ranks by inner
    products, as the figures of the evaluation do that are not under ``scored/``.

    Args:
        config: A loaded config.
        name: What the model is called in messages.
        usual_scores: See :mod:`~sen_toolbox.inference.usual_scores`.

    Raises:
        ValueError: If JSON cannot hold the model or its processor, or if a head is not registered.
    """
    model = without_weight_files(plain(config.model))
    for option in TRAINING_OPTIONS:
        model.pop(option, None)
    kinds = {head: HEADS.get(settings['type']) for head, settings in model['heads'].items()}
    if unknown := [head for head, kind in kinds.items() if kind is None]:
        raise ValueError(
            f'{name}: nobody has registered the types of the heads {unknown}; a project names its '
            'modules in custom_imports'
        )
    kept = {h: model['heads'][h] for h, kind in kinds.items() if hasattr(kind, 'embed_image')}
    model['heads'] = kept
    model['loss_weights'] = {head: model['loss_weights'][head] for head in kept}
    # Steps of training alone.
    model['data_preprocessor'].pop('erasing_prob', None)
    processor = Processor.from_config(config)
    for part in _dicts(model):
        if 'tokenizer' in part:
            # Its config may name a file; this has all words in it.
            part['tokenizer'] = processor.tokenizer.describe()
    steps = processor.describe()
    try:
        # A round trip turns tuples into lists and shows what JSON cannot hold.
        return json.loads(
            json.dumps(
                dict(
                    format=FORMAT,
                    name=name,
                    model=model,
                    steps=steps,
                    usual_scores=list(usual_scores),
                )
            )
        )
    except TypeError as error:
        raise ValueError(f'{name} cannot be described: {error}') from error


def _describe_file(config: str | Path, name: str, usual_scores: UsualScores = ()) -> dict[str, Any]:
    # Imported here because it imports all of MMEngine's training, which a model file does without.
    from sen_toolbox.config import load_config

    return describe_model(load_config(config), name, usual_scores)


def _dicts(value: Any) -> Iterator[dict]:
    """Every dict in a config, the outer ones first."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _dicts(item)


def build_model(description: Mapping[str, Any]) -> tuple[nn.Module, Processor]:
    """A retriever with random weights, and its processor.

    Raises:
        ValueError: If the description misses a value, or names a part that is not registered.
    """
    require_description(description)
    return MODELS.build(dict(description['model'])), Processor(description['steps'])


def require_description(description: Mapping[str, Any]) -> None:
    """Raises ValueError if a description misses a value, or names a part that is not registered."""
    if set(description) != KEYS or description['format'] != FORMAT:
        raise ValueError(
            f'a model of format {FORMAT} describes {sorted(KEYS)}, this one is of format '
            f'{description.get("format")!r} and describes {sorted(description)}'
        )
    require_registered(description)
    checked_usual_scores(description['usual_scores'])


def load_model(model: str | Path, checkpoint: str | Path | None = None) -> LoadedModel:
    """The model of a model file, or of a config and its checkpoint.

    Args:
        model: A model file (``.safetensors``) or a config.
        checkpoint: Checkpoint of the config, or a model of open_clip by name, which its towers
            start from. Heads that embed nothing are not looked at.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, of another kind, or does not fit.
    """
    if Path(model).suffix == '.safetensors':
        if checkpoint is not None:
            raise ValueError(f'{model} holds weights already; leave out the checkpoint')
        description, state = _read_model_file(Path(model))
        source = model
    else:
        if checkpoint is None:
            raise ValueError(
                f'{model} is not a model file (.safetensors); a config needs a checkpoint'
            )
        name = str(checkpoint) if is_hub_name(checkpoint) else Path(checkpoint).stem
        description = _describe_file(model, name)
        state, source = _read_checkpoint(checkpoint, description), checkpoint
    with _sensible(model):
        require_description(description)
    with _sensible(model), at_most(len(state)):
        outline = _outline(description)
    if outline is not None:
        _check_sizes(outline, state, source)
    # Every number of it is in the file, which check_keys sees to.
    with _sensible(model), at_most(len(state)), NothingDrawn():
        built, processor = build_model(description)
    if WORD_IDS in state:
        table = built.backbone.word_embedding.weight
        state = spread_words(state, _word_key(built), table, source)
    check_keys(built, state, source)
    built.load_state_dict(state)
    with _sensible(model):
        _try_out(built.eval(), processor)
    scores = checked_usual_scores(description['usual_scores'])
    return LoadedModel(description['name'], built, processor, scores)


def save_model(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    half: bool = False,
    words: Tensor | None = None,
    usual_scores: UsualScores = (),
) -> None:
    """Writes the model file of a config and its checkpoint.

    Args:
        config: The config.
        checkpoint: Its checkpoint, or a model of open_clip by name, which its towers start from.
        out: The file to write, ``.safetensors``.
        name: What the model is called in messages; None for the stem of ``out``.
        half: Whether to store float16.
        words: Ids of the tokens to keep in the word embedding; None keeps all. Every other token
            becomes zeros, which is exact for sentences of kept ones. Meant for words that the
            training captions never held: their rows are what they were drawn as.
        usual_scores: See :mod:`~sen_toolbox.inference.usual_scores`.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the checkpoint is not of this config, or ``out`` has another suffix.
    """
    out = Path(out)
    if out.suffix != '.safetensors':
        raise ValueError(f'a model file is called *.safetensors, got {out}')
    description = _describe_file(config, name or out.stem, usual_scores)
    state = _read_checkpoint(checkpoint, description)
    # For its keys and shapes alone.
    with NothingDrawn():
        model, _ = build_model(description)
    check_keys(model, state, checkpoint)
    if words is not None:
        key = _word_key(model)
        state = {**state, key: state[key][words], WORD_IDS: words.int()}
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    metadata = {METADATA: json.dumps(description, sort_keys=True)}
    write_atomically(out, pack_tensors(state, metadata))


def _read_checkpoint(checkpoint: str | Path, description: Mapping) -> dict[str, Tensor]:
    """The tensors of the backbone and of the described heads."""
    if is_hub_name(checkpoint):
        # Imported here because files do without.
        from sen_toolbox.inference.hub_model import build_from_name

        return build_from_name(description['model'], str(checkpoint)).state_dict()
    state = weights_in(load_checkpoint_file(str(checkpoint), map_location='cpu'), checkpoint)
    wanted = ('backbone.', *(f'heads.{name}.' for name in description['model']['heads']))
    kept = {key: value for key, value in state.items() if key.startswith(wanted)}
    if not kept:
        raise ValueError(
            f'{checkpoint} does not fit the model: it has no tensor of a backbone, the first are '
            f'{one_line(sorted(state)[:3])} (convert official checkpoints with '
            'tools/convert_checkpoint.py)'
        )
    return kept


def _read_model_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise FileNotFoundError(f'there is no model file {path}')
    try:
        content = load_checkpoint_file(str(path), map_location='cpu')
    except ValueError as error:
        raise ValueError(f'{path} is not a readable model file: {error}') from error
    meta, state = content.get('meta', {}), content['state_dict']
    text = meta.get(METADATA)
    if text is None:
        raise ValueError(f'{path} holds weights only; make a model file by tools/publish_model.py')
    # One flipped bit in the name of the digest would make the file one without.
    if others := sorted(meta.keys() - {METADATA}):
        raise ValueError(f'{path} is damaged: it has an entry {shown(others[0])}')
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'{path} does not describe its model in JSON: {one_line(error)}'
        ) from error
    if not isinstance(description, dict) or not isinstance(description.get('name', ''), str):
        raise ValueError(f'{path} does not describe its model by a JSON object with a name')
    return description, state


@contextmanager
def _sensible(source: str | Path) -> Iterator[None]:
    """Names the source of a description, which may make the parts raise anything."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f'{source} describes a model that cannot be built or run: {one_line(error)}'
        ) from error


def _outline(description: Mapping[str, Any]) -> nn.Module | None:
    """The retriever with shapes and without memory for them; None if a part cannot do without."""
    try:
        with without_numbers():
            return MODELS.build(deepcopy(dict(description['model'])))
    except TooManyError:
        raise
    # That of a project may look at its values; what is wrong otherwise, the real one tells.
    except Exception:
        return None


def _check_sizes(outline: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Compares shapes before there is memory for them: a description may ask for all there is."""
    expected = {key: value.shape for key, value in outline.state_dict().items()}
    given = {key: value.shape for key, value in state.items() if key != WORD_IDS}
    if WORD_IDS in state:
        # It has fewer rows here, which are looked at later.
        given[_word_key(outline)] = expected[_word_key(outline)]
    if given != expected:
        check_fit(outline, {key: state[key] for key in state if key != WORD_IDS}, source)


@torch.inference_mode()
def _try_out(model: nn.Module, processor: Processor) -> None:
    """Embeds a black picture and a sentence, so that a description without sense is found here."""
    text = model.backbone.spec.text
    check_tokenizer(processor.tokenizer, text.vocab_size, text.context_length)
    picture = processor.prepare_image(np.zeros((64, 64, 3), np.uint8))
    pixels = model.data_preprocessor(dict(images=torch.from_numpy(picture)[None]))['images']
    tokens = processor.prepare_texts(['a man'])
    found = model.embed_images(pixels), model.embed_text(tokens.map(torch.from_numpy))
    if found[0].shape != found[1].shape or not all(v.isfinite().all() for v in found):
        raise ValueError(
            f'it embeds a picture as {tuple(found[0].shape)} and a sentence as '
            f'{tuple(found[1].shape)}, expected finite numbers of one length'
        )


def _word_key(model: nn.Module) -> str:
    table = model.backbone.word_embedding.weight
    return next(name for name, value in model.named_parameters() if value is table)
