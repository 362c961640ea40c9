"""Models of open_clip by name: the one place that turns a name into files and may download them.

A name is looked up here only where its user has written it: on a command line, in a call, in a
config of his own. What a file from elsewhere names never gets here (docs/design.md).
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sen_toolbox.messages import one_line
from sen_toolbox.open_clip_files import open_clip_folder

OPEN_CLIP, HUB = 'open_clip:', 'hf-hub:'
FORMS = f'{OPEN_CLIP}NAME/TAG, such as {OPEN_CLIP}ViT-B-16/openai, or {HUB}ORG/NAME'
HUB_NAME = re.compile(rf'({OPEN_CLIP}|{HUB})([\w.-]+)/([\w.-]+)')
# What open_clip calls a file that its table does not name, the safe form first.
WEIGHTS = ('open_clip_model.safetensors', 'open_clip_pytorch_model.bin')
CONFIG = 'open_clip_config.json'
# A tokenizer, and what may be missing of it.
TOKENIZER = ('tokenizer.json', 'tokenizer_config.json')
BESIDE_TOKENIZER = ('config.json', 'special_tokens_map.json')
MODEL_KEYS = {'embed_dim', 'vision_cfg', 'text_cfg'}


@dataclass(frozen=True)
class HubModel:
    """A model of open_clip whose files are on this machine.

    Attributes:
        name: As its user writes it, such as ``open_clip:ViT-B-16/openai``.
        config: Its description in open_clip's words: ``embed_dim``, ``vision_cfg``, ``text_cfg``.
        preprocess: What its pictures go through: ``mean``, ``std``, ``interpolation``,
            ``resize_mode``; open_clip's defaults where a key is missing.
        weights: The file of its weights.
    """

    name: str
    config: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    weights: Path


def is_hub_name(text: object) -> bool:
    """Whether somebody means a model by name, not a file.

    >>> is_hub_name('open_clip:ViT-B-16/openai'), is_hub_name('sen.safetensors')
    (True, False)
    """
    return isinstance(text, str) and text.startswith((OPEN_CLIP, HUB))


def check_hub_name(name: str) -> None:
    """Refuses what cannot be a name, before anything heavy is imported.

    Raises:
        ValueError: If it has another form.
    """
    if HUB_NAME.fullmatch(name) is None or '..' in name:
        raise ValueError(f'{name!r} is not the name of a model: write {FORMS}')


def check_architecture(name: str) -> None:
    """Refuses an architecture that open_clip does not describe, before anything heavy is imported.

    Where open_clip is imported already, models may have been added to it: :func:`find_model` tells.

    Args:
        name: A name that :func:`check_hub_name` has passed.

    Raises:
        ValueError: If there is no such architecture; tells which are alike.
    """
    folder = open_clip_folder()
    if not name.startswith(OPEN_CLIP) or 'open_clip' in sys.modules or folder is None:
        return
    arch, _, _ = name.removeprefix(OPEN_CLIP).partition('/')
    known = sorted(path.stem for path in folder.glob('model_configs/*.json'))
    if arch not in known:
        # For advice alone: the names with weights stand in the text of open_clip's table, which
        # cannot be imported without torch.
        table = (folder / 'pretrained.py').read_text(encoding='utf-8')
        quoted = set(re.findall(r'["\']([\w.-]+)["\']', table))
        advised = [model for model in known if model.removesuffix('-quickgelu') in quoted]
        raise ValueError(f'open_clip has no model {arch!r}; {_near(arch, advised or known)}')


def find_model(name: str, *, download: bool = True) -> HubModel:
    """The files of a model, from huggingface_hub's cache; what is missing is downloaded once.

    Args:
        name: ``open_clip:NAME/TAG`` of open_clip's table, or ``hf-hub:ORG/NAME`` of a repository
            with ``open_clip_config.json``.
        download: Whether to reach the network for what the cache lacks.

    Raises:
        ValueError: If there is no such model; tells which are alike. If the repository does not
            describe a model.
        FileNotFoundError: If a file is neither in the cache nor to be had; names it, and how to
            get it.
    """
    check_hub_name(name)
    if name.startswith(OPEN_CLIP):
        return _of_table(name, download)
    repo = name.removeprefix(HUB)
    path = find_file(name, repo, (CONFIG,), download=download)
    config, preprocess = _read_config(path)
    return HubModel(name, config, preprocess, find_file(name, repo, WEIGHTS, download=download))


def find_file(name: str, repo: str, files: Sequence[str], *, download: bool) -> Path:
    """The first of some files of a repository that is in the cache, or can be downloaded.

    Args:
        name: The model, for the error.
        repo: ``ORG/NAME``.
        files: Names of files in it, the preferred one first.
        download: Whether to reach the network.

    Raises:
        FileNotFoundError: If there is none; says how to get one.
    """
    # Imported here because a model that is a file does without.
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file in files:
        if isinstance(found := try_to_load_from_cache(repo, file), str):
            return Path(found)
    reason = f'only a name that you give yourself starts a download: --model {name}'
    for file in files if download else ():
        try:
            return Path(hf_hub_download(repo, file))
        except Exception as error:  # whatever the client raises without network, file or right
            reason = f'{type(error).__name__}: {one_line(error)[:200]}'
            is_lacking = isinstance(error, EntryNotFoundError)
            # Without network each file takes half a minute of attempts.
            if not is_lacking or isinstance(error, LocalEntryNotFoundError):
                break
    folder = f'models--{repo.replace("/", "--")}'
    raise FileNotFoundError(
        f'{name}: {" or ".join(files)} of {repo} is not in the cache {HF_HUB_CACHE} and was not '
        f'downloaded ({reason}). Where there is a network, "hf download {repo} {files[0]}" fetches '
        f'it; copy {folder} of its cache into this one, or set HF_HUB_CACHE'
    )


def find_tokenizer(found: HubModel, repo: str, *, download: bool) -> tuple[str, int]:
    """A tokenizer that a model reads, in the JSON of the library ``tokenizers``, and its padding.

    Args:
        found: The model.
        repo: Where its description says that the tokenizer is.
        download: Whether to reach the network.

    Raises:
        FileNotFoundError: If it is neither in the cache nor to be had.
        ValueError: If a repository names that of a stranger, or it is no such tokenizer.
    """
    from open_clip import get_model_config, list_models
    from transformers import AutoTokenizer

    if found.name.startswith(HUB):
        # The user has named one repository; those that open_clip names are as trusted as it.
        known = {
            get_model_config(model)['text_cfg'].get('hf_tokenizer_name') for model in list_models()
        }
        if not isinstance(repo, str) or repo not in known | {found.name.removeprefix(HUB)}:
            raise ValueError(f'{found.name} has its tokenizer from elsewhere, {repo!r}: not read')
    folder = _tokenizer_folder(found.name, repo, download)
    try:
        loaded = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # whatever transformers raises for what is damaged or foreign
        raise ValueError(f'{found.name}: the tokenizer in {folder}: {one_line(error)}') from error
    backend = getattr(loaded, 'backend_tokenizer', None)
    sides = getattr(loaded, 'padding_side', None), getattr(loaded, 'truncation_side', None)
    if backend is None or sides != ('right', 'right') or loaded.pad_token_id is None:
        raise ValueError(
            f'{found.name}: {type(loaded).__name__} of {repo} is not one to be read here'
        )
    return backend.to_str(), loaded.pad_token_id


def _tokenizer_folder(name: str, repo: str, download: bool) -> Path:
    """Where the files of a tokenizer are in the cache.

    Not left to transformers, which asks the network for ``config.json`` every time, and fails
    without one; many repositories of open_clip have none.
    """
    try:
        return [find_file(name, repo, (file,), download=False) for file in TOKENIZER][0].parent
    except FileNotFoundError:
        if not download:
            raise
    first, last = TOKENIZER
    path = find_file(name, repo, (first,), download=True)
    for file in BESIDE_TOKENIZER:
        with suppress(FileNotFoundError):
            find_file(name, repo, (file,), download=True)
    # Last, so that the others are looked for again if this is interrupted.
    find_file(name, repo, (last,), download=True)
    return path.parent


def _of_table(name: str, download: bool) -> HubModel:
    """A model that open_clip lists."""
    from open_clip import get_model_config, list_pretrained
    from open_clip.pretrained import get_pretrained_cfg

    arch, _, tag = name.removeprefix(OPEN_CLIP).partition('/')
    table: dict[str, list[str]] = {}
    for model, known in list_pretrained():
        table.setdefault(model, []).append(known)
    if arch not in table:
        raise ValueError(
            f'open_clip has no model {arch!r} with weights; {_near(arch, list(table))}'
        )
    # open_clip reads a tag so, too.
    tag = tag.lower().replace('-', '_')
    if tag not in table[arch]:
        raise ValueError(f'open_clip has no weights {tag!r} of {arch}; {_near(tag, table[arch])}')
    entry = get_pretrained_cfg(arch, tag)
    config = get_model_config(arch)
    # open_clip only warns where name and weights differ in this, and computes something else.
    config['quick_gelu'] = config.get('quick_gelu', False) or entry.get('quick_gelu', False)
    repo, _, file = entry['hf_hub'].rpartition('/')
    safe = re.sub(r'\.(bin|pth)$', '.safetensors', file)
    files = tuple(dict.fromkeys((safe, file))) if file else WEIGHTS
    name = f'{OPEN_CLIP}{arch}/{tag}'
    return HubModel(name, config, entry, find_file(name, repo, files, download=download))


def _near(wanted: str, known: Sequence[str]) -> str:
    """Names that are alike, or all of them if none is."""
    by_lower = {name.lower(): name for name in known}
    near = [by_lower[name] for name in get_close_matches(wanted.lower(), by_lower, n=5, cutoff=0.6)]
    if near:
        return f'did you mean {", ".join(near)}?'
    return f'there are {", ".join(known)}'


def _read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Model and preprocessing of a repository's description."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is not JSON: {one_line(error)}') from error
    content = content if isinstance(content, dict) else {}
    config, preprocess = content.get('model_cfg'), content.get('preprocess_cfg', {})
    if not isinstance(config, dict) or not MODEL_KEYS <= config.keys():
        raise ValueError(
            f'{path} does not describe a model of open_clip: expected model_cfg with {MODEL_KEYS}'
        )
    if not isinstance(preprocess, dict):
        raise ValueError(f'{path}: preprocess_cfg is a {type(preprocess).__name__}, not an object')
    return config, preprocess
