"""Model files: damaged ones, and whole ones that describe something else."""

import copy
import json
import random
from pathlib import Path

import numpy as np
from test_hostile_descriptions import HOSTILE
from test_malformed_inputs import MODELS, packed

from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.search.cli import main

from .mutations import altered, mangled
from .outcome import attempt, require
from .small_models import DIM, description, model_file, weights

SENTENCES = ['a man in a red coat', 'hat']
PICTURE = np.arange(40 * 20 * 3, dtype=np.uint8).reshape(40, 20, 3)


class ModelFiles:
    addresses = ()

    def __init__(self, samples: Path) -> None:
        self.samples = samples
        self._weights, self._description = weights(), description()
        self._bytes = model_file(self._weights, self._description)
        (samples / 'a.safetensors').write_bytes(self._bytes)
        self._vectors = self._embed(samples / 'a.safetensors')
        length = int.from_bytes(self._bytes[:8], 'little')
        header, data = json.loads(self._bytes[8 : 8 + length]), self._bytes[8 + length :]
        del header['__metadata__']['sha256']
        self._header, self._data = header, data
        self.hostile = {}
        for name, change in HOSTILE.items():
            described = copy.deepcopy(self._description)
            try:
                change(described)
            except (KeyError, TypeError):  # meant for a description of other parts
                continue
            self.hostile[name] = model_file(self._weights, described), False
        for name, make in MODELS.items():
            self.hostile[name] = make(copy.deepcopy(header), data), False

    def mutant(self, rng: random.Random) -> tuple[bytes, bool]:
        """A file, and whether it is a damaged one of the valid model."""
        kind = rng.random()
        if kind < 0.3:
            return mangled(rng, self._bytes), True
        if kind < 0.85:
            described = altered(rng, self._description)
            return model_file(self._weights, described), False
        # As one writes it who leaves out the digest.
        header = altered(rng, self._header)
        return packed(header, self._data), False

    def check(self, sample: tuple[bytes, bool], folder: Path) -> bool:
        content, is_damaged = sample
        path = folder / 'a.safetensors'
        path.write_bytes(content)
        vectors, line = attempt(lambda: self._embed(path), [str(path)])
        if line is None:
            for found, count in zip(vectors, (1, 2), strict=True):
                require(found.shape[0] == count and np.isfinite(found).all(), f'{found.shape}')
            require(not is_damaged or np.array_equal(vectors[1], self._vectors[1]), 'wrong vectors')
            require(not is_damaged or vectors[0].shape == (1, DIM), 'wrong vectors')
        else:
            require(main(['query', 'a man', '--model', str(path), '--index', 'none']) == 1, 'exit')
        return line is not None

    def _embed(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        encoder = load_encoder(path)
        pictures = encoder.embed_prepared(encoder.prepare(PICTURE)[None])
        return pictures, encoder.embed_text(SENTENCES)
