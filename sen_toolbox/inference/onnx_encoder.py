"""Vectors from an exported model by onnxruntime; torch is not loaded."""

import base64
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sen_toolbox.search.bpe import tokenize
from sen_toolbox.search.index import ModelId

# Name of the JSON object in the file's metadata.
METADATA = 'sen_toolbox'
FORMAT = 1


class OnnxEncoder:
    """The towers of a file made by ``sen-search export``.

    Args:
        path: The file.
        device: 'cpu' or 'cuda'.

    Raises:
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If onnxruntime is not installed.
        ValueError: If the file is damaged or of another kind, or there is no GPU.
    """

    def __init__(self, path: str | Path, *, device: str = 'cpu') -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'a model *.onnx takes onnxruntime: pip install "sen-toolbox[onnx]"'
            ) from error
        if not Path(path).is_file():
            raise FileNotFoundError(f'there is no model file {path}')
        provider = 'CPUExecutionProvider' if device == 'cpu' else 'CUDAExecutionProvider'
        if provider not in onnxruntime.get_available_providers():
            raise ValueError(f'device {device!r}: onnxruntime finds no such one here; use cpu')
        options = onnxruntime.SessionOptions()
        # What limits the threads of torch and faiss limits these too; 0 is for all cores.
        options.intra_op_num_threads = int(os.environ.get('OMP_NUM_THREADS', 0))
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=[provider])
        # The errors of onnxruntime share no class of their own.
        except Exception as error:
            raise ValueError(f'{path} is no readable ONNX file (truncated?): {error}') from error
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA)
        if text is None:
            raise ValueError(f'{path} was not made by sen-search export')
        known = json.loads(text)
        if known['format'] != FORMAT:
            raise ValueError(f'{path} has format {known["format"]}, this version reads {FORMAT}')
        self.model_id = ModelId(known['name'], known['fingerprint'], known['dim'])
        self._size = tuple(known['image_size'])
        self._context_length = known['context_length']
        self._known = np.unpackbits(np.frombuffer(base64.b64decode(known['words']), np.uint8))

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The model's input (3, rows, columns) uint8 of an RGB image (H, W, 3) uint8."""
        rows, columns = self._size
        resized = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.array(resized).transpose(2, 0, 1))

    def embed_prepared(self, images: np.ndarray) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of prepared images (n, 3, rows, columns)."""
        return self._run('image_embedding', images=images)

    def embed_text(self, sentences: Sequence[str], *, batch_size: int = 256) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of sentences."""
        tokens = tokenize(sentences, self._context_length)
        parts = np.split(tokens, range(batch_size, len(tokens), batch_size))
        return np.concatenate([self.embed_tokens(part) for part in parts])

    def embed_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of token ids (n, L) int64."""
        # No later token changes the end token, which has the highest id.
        length = tokens.argmax(axis=1).max() + 1
        return self._run('text_embedding', tokens=tokens[:, :length])

    def unknown_words(self, sentence: str) -> list[str]:
        """Words of a sentence that a model file has dropped: they change nothing in a query."""
        words = list(dict.fromkeys(re.findall(r'\w+', sentence.lower())))
        known = self._known[tokenize(words, self._context_length)].all(axis=1)
        return [word for word, is_known in zip(words, known, strict=True) if not is_known]

    def _run(self, output: str, **given: np.ndarray) -> np.ndarray:
        # Both towers are one graph; the other one gets a batch of none.
        nothing = dict(
            images=np.zeros((0, 3, *self._size), np.uint8), tokens=np.zeros((0, 3), np.int64)
        )
        return self._session.run([output], nothing | given)[0]
