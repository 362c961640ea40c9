"""A trained model that turns pictures and sentences into comparable vectors."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.device import get_device
from torch import Tensor, nn

from sen_toolbox.hub import is_hub_name
from sen_toolbox.inference.identity import ModelId
from sen_toolbox.inference.processor import Processor
from sen_toolbox.inference.trained import build_trained
from sen_toolbox.inference.unknown_words import unknown_words
from sen_toolbox.inference.usual_scores import UsualScores, usual_score
from sen_toolbox.text.tokens import Tokens, check_fit

if TYPE_CHECKING:
    from mmengine.config import Config


class Encoder:
    """A retriever and its processor: the one way to embed outside of training and evaluation.

    Args:
        model: The retriever; with the heads whose embeddings count.
        processor: Prepares its input.
        name: What the model is called in messages.
        device: Where to compute; None for a GPU if there is one.
        half: Whether to compute in float16; None for yes on a GPU only.
        usual_scores: See :mod:`~sen_toolbox.inference.usual_scores`; empty if nobody measured them.

    Raises:
        ValueError: If there is no such GPU, or the processor's tokenizer does not fit the model.
    """

    def __init__(
        self,
        model: nn.Module,
        processor: Processor,
        *,
        name: str,
        device: str | None = 'cpu',
        half: bool | None = None,
        usual_scores: UsualScores = (),
    ) -> None:
        device = device or get_device()
        if device.startswith('cuda') and not torch.cuda.is_available():
            raise ValueError(f'device {device!r}: torch finds no GPU here; use cpu')
        text = model.backbone.spec.text
        check_fit(processor.tokenizer, text.vocab_size, text.context_length)
        self.processor, self._name = processor, name
        self.usual_scores = usual_scores
        self.device = torch.device(device)
        half = self.device.type != 'cpu' if half is None else half
        # Before the weights are rounded and moved.
        self._fingerprint = _fingerprint(processor, model)
        self.model = (model.half() if half else model).to(self.device).eval()

    @classmethod
    def from_config(
        cls, config: 'Config', checkpoint: str | Path, *, device: str | None = None
    ) -> 'Encoder':
        """The whole model of a config, heads included, in float32.

        Args:
            config: A loaded config.
            checkpoint: Its checkpoint, or a model of open_clip by name, which its towers start
                from.
            device: As for the class.

        Raises:
            FileNotFoundError: If there is no such checkpoint.
            ValueError: If the checkpoint is not of this config.
        """
        model = build_trained(config, checkpoint)
        processor = Processor.from_config(config)
        return cls(model, processor, name=_name_of(checkpoint), device=device, half=False)

    @cached_property
    def model_id(self) -> ModelId:
        """Name, fingerprint and length of an embedding."""
        return ModelId(self._name, self._fingerprint, self.embed_text(['a']).shape[1])

    @cached_property
    def known_tokens(self) -> np.ndarray:
        """Whether each token of the vocabulary means anything to the model, (V,) bool."""
        return self.model.backbone.word_embedding.weight.detach().any(dim=1).cpu().numpy()

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The model's input (3, rows, columns) uint8 of an RGB image (H, W, 3) uint8."""
        return self.processor.prepare_image(image)

    @torch.inference_mode()
    def embed_prepared(self, images: np.ndarray) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of prepared images (n, 3, rows, columns)."""
        return self.model.embed_images(self.normalised(images)).float().cpu().numpy()

    def normalised(self, images: np.ndarray) -> Tensor:
        """Prepared images (n, 3, rows, columns) as the model takes them, on its device."""
        return self.model.data_preprocessor(dict(images=torch.from_numpy(images)))['images']

    def embed_files(self, paths: Sequence[str | Path], *, batch_size: int = 64) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of image files.

        Raises:
            ValueError: If there are none, or a file cannot be decoded; names it.
        """
        parts = []
        with ThreadPoolExecutor() as pool:
            for part in _parts(paths, batch_size):
                prepared = np.stack(list(pool.map(self.processor.prepare_file, part)))
                parts.append(self.embed_prepared(prepared))
        return np.concatenate(parts)

    @torch.inference_mode()
    def embed_text(self, sentences: Sequence[str], *, batch_size: int = 256) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of sentences.

        Raises:
            ValueError: If there are none.
        """
        parts = [
            self.model.embed_text(self.tokens(part)).float().cpu().numpy()
            for part in _parts(sentences, batch_size)
        ]
        return np.concatenate(parts)

    def tokens(self, sentences: Sequence[str]) -> Tokens:
        """Tokens of some sentences, on the model's device."""
        return self.processor.prepare_texts(sentences).map(
            lambda array: torch.from_numpy(array).to(self.device)
        )

    def unknown_words(self, sentence: str) -> list[str]:
        """Words of a sentence that a model file has dropped: they change nothing in a query."""
        return unknown_words(self.processor.tokenizer, self.known_tokens, sentence)

    def usual_score(self, sentence: str) -> float | None:
        """What the best score for a description of this length usually is, if known."""
        return usual_score(self.usual_scores, sentence)


def _name_of(checkpoint: str | Path) -> str:
    return str(checkpoint) if is_hub_name(checkpoint) else Path(checkpoint).stem


def _parts(items: Sequence, size: int) -> list[Sequence]:
    if not len(items):
        raise ValueError('there is nothing to embed')
    return [items[start : start + size] for start in range(0, len(items), size)]


def _fingerprint(processor: Processor, model: nn.Module) -> str:
    """A hash of what decides an embedding; the model's name does not."""
    digest = hashlib.sha256(json.dumps(processor.describe(), sort_keys=True).encode())
    state = dict(model.data_preprocessor.named_buffers(prefix='data_preprocessor'))
    state |= model.backbone.state_dict(prefix='backbone.')
    for name in model.embedding_heads:
        state |= model.heads[name].state_dict(prefix=f'heads.{name}.')
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()
