"""The weights of CLIP that OpenAI published: where they are, and which archives they are."""

import hashlib
import io
from pathlib import Path

import torch
from torch import Tensor


def find_openai(arch: str | dict) -> Path:
    """The file of a model, found on this machine or downloaded.

    Args:
        arch: open_clip's name of the model; OpenAI published none for a dict.

    Raises:
        FileNotFoundError: If there is no such file; says which file to put where.
    """
    # Imported here because a model that is loaded from a file does without.
    from sen_toolbox.models.open_clip_package import open_clip

    config = (
        open_clip.pretrained.get_pretrained_cfg(arch, 'openai') if isinstance(arch, str) else None
    )
    if not config:
        raise FileNotFoundError(f'OpenAI published no weights for {arch!r}; give a file instead')
    # OpenAI's own package keeps its downloads under this name in this folder.
    local = Path('~/.cache/clip').expanduser() / Path(config['url']).name
    if local.is_file():
        return local
    try:
        return Path(open_clip.pretrained.download_pretrained(config))
    except Exception as error:  # whatever the downloader raises without a network
        raise FileNotFoundError(
            f'the OpenAI weights of {arch} are not on this machine and could not be downloaded '
            f'({type(error).__name__}). Put {local.name} (from {config["url"]}) at {local}, or set '
            f'pretrained to its path'
        ) from error


def read_openai_archive(path: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive that OpenAI published.

    Raises:
        ValueError: If it is another one: loading it would run instructions in it, which can write
            files.
    """
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() not in openai_hashes():
        raise ValueError(
            f'{path} is a TorchScript archive, which runs code when loaded, and none that OpenAI '
            f'published; save the state_dict of its model with torch.save instead'
        )
    return torch.jit.load(io.BytesIO(data), map_location='cpu').state_dict()


def openai_hashes() -> set[str]:
    """The SHA-256 of each file, which OpenAI's addresses hold: .../models/<hash>/ViT-B-16.pt."""
    from sen_toolbox.models.open_clip_package import open_clip

    names = open_clip.pretrained.list_pretrained_models_by_tag('openai')
    return {
        open_clip.pretrained.get_pretrained_url(name, 'openai').split('/')[-2] for name in names
    }
