"""Vectors from an exported model by onnxruntime; a query by words does not load torch."""

import base64
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sen_toolbox.inference.identity import ModelId
from sen_toolbox.inference.seal import SEAL, check_seal
from sen_toolbox.inference.unknown_words import unknown_words
from sen_toolbox.inference.usual_scores import checked_usual_scores, usual_score
from sen_toolbox.messages import one_line, shown
from sen_toolbox.text.tokenizers import CLASSES, build_tokenizer
from sen_toolbox.text.tokens import Tokenizer, Tokens

if TYPE_CHECKING:
    from sen_toolbox.inference.processor import Processor

T = TypeVar('T')
# Name of the JSON object in the file's metadata.
METADATA = 'sen_toolbox'
FORMAT = 3
# Types of what the object holds.
DESCRIBED = {
    'name': str, 'fingerprint': str, 'dim': int, 'image_size': list, 'steps': list,
    'tokenizer': dict, 'tokenizes_alone': bool, 'cuts_padding': bool, 'words': str,
    'usual_scores': list,
}  # fmt: skip
# Most numbers of an embedding, or pixels of a side.
LARGEST = 10_000


class OnnxEncoder:
    """The model of a file made by ``sen-search export``.

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
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f'there is no model file {path}')
        provider = 'CPUExecutionProvider' if device == 'cpu' else 'CUDAExecutionProvider'
        if provider not in onnxruntime.get_available_providers():
            raise ValueError(f'device {device!r}: onnxruntime finds no such one here; use cpu')
        options = onnxruntime.SessionOptions()
        # What limits the threads of torch and faiss limits these too; 0 is for all cores.
        options.intra_op_num_threads = int(os.environ.get('OMP_NUM_THREADS', 0))
        # What it logs is raised, too; and it prints before it tries the same provider again.
        options.log_severity_level = 4
        # Weights may lie in other files, below a folder; nothing can lie below a file.
        options.add_session_config_entry(
            'session.model_external_initializers_file_folder_path', str(path.absolute())
        )
        content = path.read_bytes()
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=[provider], enable_fallback=0
            )
            self._inputs = {given.name for given in self._session.get_inputs()}
            text = self._session.get_modelmeta().custom_metadata_map.get(METADATA)
        # The errors of onnxruntime share no class of their own, and names may be no text.
        except Exception as error:
            raise ValueError(
                f'{path} is not a readable ONNX file (truncated?): {one_line(error)}'
            ) from error
        if text is None:
            raise ValueError(f'{path} was not made by sen-search export')
        self._path = path
        try:
            known = checked_description(text)
            check_seal(content, known)
            self._tokenizer = _tokenizer(known['tokenizer'])
            self._usual_scores = checked_usual_scores(known['usual_scores'])
            self._known = np.unpackbits(np.frombuffer(base64.b64decode(known['words']), np.uint8))
            if len(self._known) < self._tokenizer.vocab_size:
                raise ValueError(
                    f'it knows of {len(self._known)} tokens whether they mean anything, of '
                    f'{self._tokenizer.vocab_size}'
                )
        # A file chooses every argument of its tokenizer, which may raise anything of them.
        except Exception as error:
            raise ValueError(f'{path} cannot be read: {one_line(error)}') from error
        self.model_id = ModelId(known['name'], known['fingerprint'], known['dim'])
        self._steps, self._cuts_padding = known['steps'], known['cuts_padding']
        self._size = tuple(known['image_size'])
        self._tokenizes_alone = known['tokenizes_alone']

    @cached_property
    def _processor(self) -> 'Processor':
        # Imported here because its transforms load torch.
        from sen_toolbox.inference.processor import Processor
        from sen_toolbox.inference.registered import require_registered

        try:
            require_registered(self._steps)
            processor = Processor(self._steps)
            if processor.image_size != self._size:
                raise ValueError(f'its steps make images of {processor.image_size}')
        # A file chooses every argument of the steps, which may raise anything of them.
        except Exception as error:
            raise ValueError(f'{self._path} prepares nothing: {one_line(error)}') from error
        return processor

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The model's input (3, rows, columns) uint8 of an RGB image (H, W, 3) uint8."""
        return self._prepared(self._processor.prepare_image, image)

    def embed_prepared(self, images: np.ndarray) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of prepared images (n, 3, rows, columns)."""
        return self._run('image_embedding', images=images)

    def embed_text(self, sentences: Sequence[str], *, batch_size: int = 256) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of sentences."""
        prepare = self._tokenizer if self._tokenizes_alone else self._processor.prepare_texts
        tokens = self._prepared(prepare, sentences)
        rows = range(0, len(tokens), batch_size)
        return np.concatenate([self.embed_tokens(tokens[r : r + batch_size]) for r in rows])

    def embed_tokens(self, tokens: Tokens) -> np.ndarray:
        """L2-normalised embeddings (n, D) float32 of tokens, in NumPy."""
        if self._cuts_padding:
            tokens = tokens.cut(int(tokens.lengths.max()))
        return self._run('text_embedding', **vars(tokens))

    def unknown_words(self, sentence: str) -> list[str]:
        """Words of a sentence that a model file has dropped: they change nothing in a query."""
        return unknown_words(self._tokenizer, self._known, sentence)

    def usual_score(self, sentence: str) -> float | None:
        """What the best score for a description of this length usually is, if known."""
        return usual_score(self._usual_scores, sentence)

    def _prepared(self, prepare: Callable[[T], Any], given: T) -> Any:
        try:
            return prepare(given)
        except MemoryError:  # of a picture, not of the file
            raise
        # The file has chosen the arguments of whatever prepares.
        except Exception as error:
            raise ValueError(f'{self._path} prepares nothing: {one_line(error)}') from error

    def _run(self, output: str, **given: np.ndarray) -> np.ndarray:
        # Both encoders are one graph; the other one gets a batch of none.
        length = self._tokenizer.context_length
        inputs = dict(
            images=np.zeros((0, 3, *self._size), np.uint8),
            ids=np.zeros((0, length), np.int64),
            mask=np.zeros((0, length), bool),
            end=np.zeros(0, np.int64),
        )
        inputs |= given
        used = {name: value for name, value in inputs.items() if name in self._inputs}
        try:
            [vectors] = self._session.run([output], used)
        except Exception as error:
            raise ValueError(f'{self._path} cannot be run: {one_line(error)}') from error
        rows = len(next(iter(given.values())))
        # Graphs give texts and lists, too.
        kind, shape = getattr(vectors, 'dtype', None), getattr(vectors, 'shape', None)
        if (
            kind != np.float32
            or shape != (rows, self.model_id.dim)
            or not np.isfinite(vectors).all()
        ):
            raise ValueError(
                f'{self._path} gives vectors of shape {shape} ({kind}) for {rows} inputs, expected '
                f'{self.model_id.dim} finite numbers each, as float32'
            )
        return vectors


def checked_description(text: str) -> dict[str, Any]:
    """What the metadata of a file say, with every value of its type.

    Raises:
        ValueError: If something is missing or is not what it is to be.
    """
    known = json.loads(text)
    if not isinstance(known, dict) or known.get('format') != FORMAT:
        given = known.get('format') if isinstance(known, dict) else known
        raise ValueError(f'it has format {shown(given)}, this version reads {FORMAT}')
    wrong = [key for key, kind in DESCRIBED.items() if type(known.get(key)) is not kind]
    if wrong or len(known['image_size']) != 2:
        raise ValueError(f'it does not describe its model: {", ".join(wrong or ["image_size"])}')
    # One flipped bit in the name of the digest would make the file one without.
    if others := sorted(known.keys() - DESCRIBED.keys() - {'format', SEAL}):
        raise ValueError(f'it is damaged: it has an entry {shown(others[0])}')
    sizes = [known['dim'], *known['image_size']]
    if not all(type(size) is int and 0 < size <= LARGEST for size in sizes):
        raise ValueError(f'dim and image_size are whole numbers in 1..{LARGEST}, got {sizes}')
    return known


def _tokenizer(description: Mapping) -> Tokenizer:
    """A tokenizer; one that is not among the toolbox's own needs the registry, and so torch."""
    own = {cls.__name__: cls for cls in CLASSES}
    if cls := own.get(description['type']):
        reads = getattr(cls, 'reads_files', ())
        if files := [key for key in reads if description.get(key) is not None]:
            raise ValueError(f'a model file reads no other file, this one {description[files[0]]}')
        return build_tokenizer(description)
    from sen_toolbox.inference.registered import require_registered
    from sen_toolbox.text.registration import as_tokenizer

    require_registered(description)
    return as_tokenizer(description)
