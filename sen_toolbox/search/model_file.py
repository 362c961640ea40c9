"""Model files: the towers of a retriever and all they need, in one safetensors file.

The file's metadata holds, under ``sen_toolbox``, a JSON object with the keys of ``KEYS``; the
tensors are the backbone's. Nothing in it is executed: the backbone must be one of the registered.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.config import load_config
from sen_toolbox.io import write_atomically
from sen_toolbox.registry import BACKBONES, MODELS

FORMAT = 1
KEYS = {'format', 'name', 'backbone', 'image_size', 'context_length', 'mean', 'std'}
PIPELINE = ['LoadImage', 'ResizeImage', 'Tokenize', 'PackPair']
WORD_IDS = 'known_words'
WORD_ROWS = 'token_embedding.weight'


def describe_model(config: Config, name: str) -> dict[str, Any]:
    """What a model file says of the towers of a config, as plain JSON values.

    Args:
        config: A config whose test pipeline is ``PIPELINE``.
        name: What the model is called in messages.

    Raises:
        ValueError: If the model or its test pipeline is of another kind.
    """
    kinds = (config.model.type, config.model.data_preprocessor.type)
    if kinds != ('TextImageRetriever', 'PairPreprocessor'):
        raise ValueError(f'{name}: a TextImageRetriever with a PairPreprocessor, not {kinds}')
    steps = config.test_dataloader.dataset.pipeline
    kinds = [step['type'] for step in steps]
    if kinds != PIPELINE:
        raise ValueError(f'{name}: the test pipeline must be {PIPELINE}, got {kinds}')
    backbone = config.model.backbone.to_dict()
    backbone.pop('pretrained', None)
    description = dict(
        format=FORMAT,
        name=name,
        backbone=backbone,
        image_size=steps[1]['size'],
        context_length=steps[2].get('context_length', 77),
        mean=config.model.data_preprocessor.mean,
        std=config.model.data_preprocessor.std,
    )
    # A round trip turns tuples into lists and shows what JSON cannot hold.
    return json.loads(json.dumps(description))


def build_towers(description: Mapping[str, Any]) -> nn.Module:
    """A retriever without heads, with random weights.

    Raises:
        ValueError: If the description names no registered backbone or misses a value.
    """
    if set(description) != KEYS or description['format'] != FORMAT:
        raise ValueError(
            f'a model of format {FORMAT} describes {sorted(KEYS)}, this one is of format '
            f'{description.get("format")!r} and describes {sorted(description)}'
        )
    backbone = {**description['backbone'], 'pretrained': None}
    BACKBONES.import_from_location()
    # A registry would import any name with a dot in it, whatever it does.
    if backbone.get('type') not in BACKBONES.module_dict:
        raise ValueError(
            f'unknown backbone {backbone.get("type")!r}, known are {sorted(BACKBONES.module_dict)}'
        )
    preprocessor = dict(type='PairPreprocessor', mean=description['mean'], std=description['std'])
    return MODELS.build(
        dict(
            type='TextImageRetriever',
            backbone=backbone,
            heads={},
            loss_weights={},
            data_preprocessor=preprocessor,
        )
    )


def load_towers(model: str | Path, checkpoint: str | Path | None = None) -> tuple[dict, nn.Module]:
    """Description and towers, in float32, of a model file, or of a config and its checkpoint.

    Args:
        model: A model file (``.safetensors``) or a config.
        checkpoint: Checkpoint of the config. Its heads are not looked at.

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
                f'{model} is no model file (.safetensors); a config needs a checkpoint'
            )
        description = describe_model(load_config(model), Path(checkpoint).stem)
        state, source = _read_towers(checkpoint), checkpoint
    towers = build_towers(description)
    _restore_words(state, towers.backbone)
    check_keys(towers.backbone, state, source)
    towers.backbone.load_state_dict(state)
    return description, towers.eval()


def save_model(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    half: bool = False,
    words: Tensor | None = None,
) -> None:
    """Writes the model file of a config and its checkpoint.

    Args:
        config: The config.
        checkpoint: Its checkpoint.
        out: The file to write, ``.safetensors``.
        name: What the model is called in messages; None for the stem of ``out``.
        half: Whether to store float16.
        words: Ids of the tokens to keep in the word embedding; None keeps all. Every other token
            becomes zeros, which is exact for sentences of kept ones. Meant for words that the
            training captions never held: their rows are what they were drawn as.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the checkpoint is not of this config, or ``out`` has another suffix.
    """
    out = Path(out)
    if out.suffix != '.safetensors':
        raise ValueError(f'a model file is called *.safetensors, got {out}')
    description = describe_model(load_config(config), name or out.stem)
    state = _read_towers(checkpoint)
    check_keys(build_towers(description).backbone, state, checkpoint)
    if words is not None:
        key = _word_key(state)
        state = {**state, key: state[key][words], WORD_IDS: words.int()}
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    tensors = {key: value.contiguous() for key, value in state.items()}
    content = save(tensors, {'sen_toolbox': json.dumps(description, sort_keys=True)})
    write_atomically(out, content)


def _read_towers(checkpoint: str | Path) -> dict[str, Tensor]:
    content = load_checkpoint_file(str(checkpoint), map_location='cpu')
    state = content.get('state_dict', content)
    towers = {
        key.removeprefix('backbone.'): value
        for key, value in state.items()
        if key.startswith('backbone.')
    }
    if not towers:
        raise ValueError(
            f'{checkpoint} does not fit the model: it has no tensor of a backbone, the first are '
            f'{sorted(state)[:3]} (convert official checkpoints with tools/convert_checkpoint.py)'
        )
    return towers


def _read_model_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise FileNotFoundError(f'there is no model file {path}')
    try:
        with safe_open(path, framework='pt') as file:
            text = (file.metadata() or {}).get('sen_toolbox')
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f'{path} is no readable model file (truncated?): {error}') from error
    if text is None:
        raise ValueError(f'{path} holds weights only; make a model file by tools/publish_model.py')
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    try:
        description = json.loads(text)
    except ValueError as error:
        raise ValueError(f'{path} describes its model by no JSON: {error}') from error
    if not isinstance(description, dict):
        raise ValueError(f'{path} describes its model by no JSON object')
    return description, state


def _restore_words(state: dict[str, Tensor], backbone: nn.Module) -> None:
    """Spreads the kept rows of the word embedding over the whole vocabulary."""
    ids = state.pop(WORD_IDS, None)
    if ids is None:
        return
    key = _word_key(state)
    rows = torch.zeros(backbone.spec.vocab_size, state[key].shape[1])
    if len(ids) != len(state[key]) or ids.min() < 0 or ids.max() >= len(rows):
        raise ValueError(f'{WORD_IDS} must number the {len(state[key])} rows of {key}')
    state[key] = rows.index_copy(0, ids.long(), state[key])


def _word_key(state: Mapping[str, Tensor]) -> str:
    return next(key for key in state if key.endswith(WORD_ROWS))
