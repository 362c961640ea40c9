"""Safetensors files with a digest, so that a byte that was flipped later is noticed."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

# Key of the digest in the metadata.
DIGEST = 'sha256'
SHA256 = re.compile('[0-9a-f]{64}')


def pack_tensors(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of some tensors and texts, which tells the digest of both."""
    state = {key: value.contiguous() for key, value in state.items()}
    return save(state, {**metadata, DIGEST: _digest(state, metadata)})


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, without the digest.

    A file without one, which others have written, is read as it is.

    Raises:
        ValueError: If the digest is not that of the content, or has another name.
        Exception: What safetensors raises for a file that is cut or of another kind.
    """
    with safe_open(path, framework='pt') as file:
        metadata = dict(file.metadata() or {})
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
    told = metadata.pop(DIGEST, None)
    # A flipped bit may hit the digest's name, which then is as long as it was.
    damaged = any(
        len(key) == len(DIGEST) and SHA256.fullmatch(value) for key, value in metadata.items()
    )
    if damaged or (told is not None and told != _digest(state, metadata)):
        raise ValueError('its content does not have the SHA-256 with which it was written')
    return state, metadata


def _digest(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for key, value in sorted(state.items()):
        digest.update(json.dumps([key, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
