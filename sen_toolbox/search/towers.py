"""Turns images and sentences into comparable vectors with the towers of a model."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sen_toolbox.datasets.transforms import ResizeImage, Tokenize
from sen_toolbox.search.index import ModelId
from sen_toolbox.search.model_file import WORD_ROWS, load_towers


class TowerEncoder:
    """The towers of a model file, or of a config and its checkpoint.

    Args:
        model: A model file (``.safetensors``) or a config.
        checkpoint: Checkpoint of the config.
        device: Where to compute.
        half: Whether to compute in float16; None for yes on a GPU only.

    Attributes:
        image_size: (rows, columns) that images are resized to.
        context_length: Tokens that a sentence is cut to.
        known_tokens: Whether each token of the vocabulary means anything, (V,) bool.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, of another kind, or does not fit, or there is no GPU.
    """

    def __init__(
        self,
        model: str | Path,
        checkpoint: str | Path | None = None,
        *,
        device: str = 'cpu',
        half: bool | None = None,
    ) -> None:
        if device.startswith('cuda') and not torch.cuda.is_available():
            raise ValueError(f'device {device!r}: torch finds no GPU here; use cpu')
        description, towers = load_towers(model, checkpoint)
        self.model_id = ModelId(
            name=description['name'],
            fingerprint=_fingerprint(description, towers.backbone),
            dim=towers.backbone.spec.embed_dim,
        )
        self.image_size = tuple(description['image_size'])
        self.context_length = description['context_length']
        self._resize = ResizeImage(self.image_size)
        self._tokenize = Tokenize(self.context_length)
        words = next(v for k, v in towers.state_dict().items() if k.endswith(WORD_ROWS))
        self.known_tokens = words.any(dim=1).numpy()
        half = torch.device(device).type != 'cpu' if half is None else half
        self.model = towers.half() if half else towers
        self.model.to(device)
        self._device = device

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The model's input (3, rows, columns) uint8 of an RGB image (H, W, 3) uint8."""
        resized = self._resize.transform(dict(img=image))['img']
        return np.ascontiguousarray(resized.transpose(2, 0, 1))

    @torch.inference_mode()
    def embed_prepared(self, images: np.ndarray) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of prepared images (n, 3, rows, columns)."""
        batch = self.model.data_preprocessor(dict(images=torch.from_numpy(images)))
        return self.model.embed_images(batch['images']).float().cpu().numpy()

    @torch.inference_mode()
    def embed_text(self, sentences: Sequence[str], *, batch_size: int = 256) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of sentences."""
        tokens = self._tokenize.transform(dict(captions=list(sentences)))['tokens']
        parts = [
            self.model.embed_text(part).float().cpu()
            for part in torch.from_numpy(tokens).to(self._device).split(batch_size)
        ]
        return torch.cat(parts).numpy()

    def unknown_words(self, sentence: str) -> list[str]:
        """Words of a sentence that a model file has dropped: they change nothing in a query."""
        words = dict.fromkeys(re.findall(r'\w+', sentence.lower()))
        tokens = self._tokenize.transform(dict(captions=list(words)))['tokens']
        known = self.known_tokens[tokens].all(axis=1)
        return [word for word, is_known in zip(words, known, strict=True) if not is_known]


def _fingerprint(description: dict, backbone: nn.Module) -> str:
    """A hash of what decides an embedding; the model's name does not."""
    known = {key: value for key, value in description.items() if key != 'name'}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    for name, tensor in _sorted_state(backbone):
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _sorted_state(backbone: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from sorted(backbone.state_dict().items())
