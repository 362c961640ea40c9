"""A trained model that turns image files and sentences into comparable embeddings."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from torch import Tensor

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.config import load_config
from sen_toolbox.datasets.collate import collate_pairs
from sen_toolbox.registry import MODELS, TRANSFORMS


class PairEncoder:
    """Embeds image files and sentences as the evaluation of a config does.

    Args:
        config: A config, or its path.
        checkpoint: Checkpoint of the model, strictly of this config's.
        device: Where to compute; None for a GPU if there is one.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the checkpoint is not of this model.
    """

    def __init__(
        self, config: Config | str | Path, checkpoint: str | Path, *, device: str | None = None
    ) -> None:
        config = config if isinstance(config, Config) else load_config(config)
        self.model = MODELS.build(config.model)
        state = load_checkpoint_file(str(checkpoint), map_location='cpu')['state_dict']
        check_keys(self.model, state, checkpoint)
        self.model.load_state_dict(state)
        self.model.to(device or get_device()).eval()
        pipeline = config.test_dataloader.dataset.pipeline
        self.pipeline = Compose([TRANSFORMS.build(dict(step)) for step in pipeline])

    def preprocess(self, paths: Sequence[str | Path], captions: Sequence[str]) -> dict:
        """The model's input for pairs of an image file and a sentence."""
        samples = [
            self.pipeline(dict(img_path=str(path), pid=0, captions=[caption]))
            for path, caption in zip(paths, captions, strict=True)
        ]
        return self.model.data_preprocessor(collate_pairs(samples))

    @torch.no_grad()
    def embed_images(self, paths: Sequence[str | Path], *, batch_size: int = 64) -> Tensor:
        """L2-normalised embeddings (n, D) of image files, on the CPU.

        Raises:
            ValueError: If a file cannot be decoded; names it.
        """
        parts = [
            self.model.embed_images(self.preprocess(part, [''] * len(part))['images']).cpu()
            for part in _chunks(paths, batch_size)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def embed_text(self, sentences: Sequence[str], *, batch_size: int = 256) -> Tensor:
        """L2-normalised embeddings (n, D) of sentences, on the CPU."""
        tokenize = [step for step in self.pipeline.transforms if hasattr(step, 'context_length')]
        device = next(self.model.parameters()).device
        parts = []
        for part in _chunks(sentences, batch_size):
            tokens = Compose(tokenize)(dict(captions=list(part)))['tokens']
            parts.append(self.model.embed_text(torch.from_numpy(tokens).to(device)).cpu())
        return torch.cat(parts)


def _chunks(items: Sequence, size: int) -> Iterator[Iterable]:
    if not items:
        raise ValueError('there is nothing to embed')
    for start in range(0, len(items), size):
        yield items[start : start + size]
