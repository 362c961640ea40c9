"""How a model prepares a picture and a sentence: the test pipeline of its config, split in two."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sen_toolbox.text.tokens import Tokenizer, Tokens


class Processor:
    """Prepares pictures and sentences as the evaluation of a config does.

    Steps are divided by what they say they change (``changes`` of a transform): ``img``, or
    ``captions`` and ``tokens``; one that changes nothing packs, and is left out. A step that reads
    the file (``reads_file``) is for files alone.

    Args:
        steps: Configs of the transforms of a test pipeline.

    Raises:
        ValueError: If a step does not say what it changes, or changes both, or none makes tokens.
    """

    def __init__(self, steps: Sequence[Mapping[str, Any]]) -> None:
        # Imported here because it loads torch, which a query of an exported model does without.
        from sen_toolbox.registry import TRANSFORMS

        self._configs: list[dict] = []
        self._picture: list[Callable] = []
        self._sentence: list[Callable] = []
        for config in steps:
            step = TRANSFORMS.build(dict(config))
            changes = getattr(step, 'changes', None)
            if changes is None or (changes != {'img'} and not changes <= {'captions', 'tokens'}):
                raise ValueError(
                    f'{type(step).__name__} in the test pipeline says in `changes` '
                    f'{"nothing" if changes is None else sorted(changes)}: a transform changes '
                    "{'img'}, or {'captions', 'tokens'}, or, if it packs, nothing: frozenset()"
                )
            if changes:
                self._configs.append(dict(config))
                (self._picture if changes == {'img'} else self._sentence).append(step)
        tokenizers = [step.tokenizer for step in self._sentence if hasattr(step, 'tokenizer')]
        if not tokenizers:
            raise ValueError(
                f'the test pipeline {[step["type"] for step in self._configs]} makes no tokens: '
                'put Tokenize into it'
            )
        self.tokenizer: Tokenizer = tokenizers[0]

    @classmethod
    def from_config(cls, config: Mapping) -> 'Processor':
        """That of the test pipeline of a loaded config."""
        return cls(plain(config['test_dataloader']['dataset']['pipeline']))

    def describe(self) -> list[dict[str, Any]]:
        """Configs that build it again from nothing else, as plain JSON values.

        Raises:
            ValueError: If a step holds something that JSON cannot.
        """
        steps = []
        for config in self._configs:
            config = dict(config)
            if 'tokenizer' in config:
                config['tokenizer'] = self.tokenizer.describe()
            steps.append(config)
        try:
            return json.loads(json.dumps(steps))
        except TypeError as error:
            raise ValueError(f'a step of the test pipeline cannot be described: {error}') from error

    def prepare_image(self, image: np.ndarray) -> np.ndarray:
        """The model's input (3, rows, columns) uint8 of an RGB image (H, W, 3) uint8."""
        steps = [step for step in self._picture if not getattr(step, 'reads_file', False)]
        return self._run(steps, dict(img=image))

    def prepare_file(self, path: str | Path) -> np.ndarray:
        """The model's input of an image file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it cannot be decoded; names it.
        """
        return self._run(self._picture, dict(img_path=str(path)))

    def _run(self, steps: Sequence, results: dict) -> np.ndarray:
        for step in steps:
            results = step(results)
        return np.ascontiguousarray(results['img'].transpose(2, 0, 1))

    def prepare_texts(self, sentences: Sequence[str]) -> Tokens:
        """Tokens of some sentences, in NumPy."""
        results: dict[str, Any] = dict(captions=list(sentences))
        for step in self._sentence:
            results = step(results)
        return results['tokens']

    @property
    def tokenizes_alone(self) -> bool:
        """Whether nothing but the tokenizer changes a sentence."""
        return len(self._sentence) == 1

    def clean(self, sentence: str) -> str:
        """The sentence as the tokenizer gets it."""
        results = dict(captions=[sentence])
        for step in self._sentence:
            if not hasattr(step, 'tokenizer'):
                results = step(results)
        return results['captions'][0]

    @cached_property
    def image_size(self) -> tuple[int, int]:
        """(rows, columns) of a prepared image."""
        return self.prepare_image(np.zeros((64, 64, 3), np.uint8)).shape[1:]


def plain(value: Any) -> Any:
    """A config's own dicts and lists as plain ones."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value
