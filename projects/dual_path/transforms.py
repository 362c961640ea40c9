"""Which caption stands beside an image, and where it begins in its row."""

import random
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.tokens import Tokens


@TRANSFORMS.register_module()
class DrawCaption(BaseTransform):
    """Takes a random caption of the person, of any image, for each of ``captions``.

    For training alone.
    """

    changes = frozenset({'captions'})

    def __init__(self) -> None:
        self._captions: dict[int, list[str]] | None = None

    def see_pairs(self, pairs: Sequence[dict]) -> None:
        """Notes which captions each person has; the data set calls it with all training pairs."""
        self._captions = {}
        for pair in pairs:
            self._captions.setdefault(pair['person_id'], []).extend(pair['captions'])

    def transform(self, results: dict) -> dict:
        """Changes ``captions``.

        Raises:
            KeyError: If the data set has not told its pairs, as in a test pipeline.
        """
        if self._captions is None:
            raise KeyError('DrawCaption is for the pipeline of a training split')
        captions = self._captions[results['person_id']]
        results['captions'] = [self.draw(captions) for _ in results['captions']]
        return results

    def draw(self, captions: Sequence[str]) -> str:
        """One of the captions of a person."""
        return random.choice(captions)


@TRANSFORMS.register_module()
class ShiftWords(BaseTransform):
    """Lets captions begin at a random place of their rows; places before them are not words."""

    changes = frozenset({'tokens'})

    def transform(self, results: dict) -> dict:
        """Changes ``tokens``."""
        tokens = results['tokens']
        width = tokens.ids.shape[1]
        starts = np.array([self.draw_start(width - length) for length in tokens.lengths.tolist()])
        results['tokens'] = shifted(tokens, starts)
        return results

    def draw_start(self, room: int) -> int:
        """The place of the first word, in 0..``room``."""
        return random.randint(0, room)


def shifted(tokens: Tokens, starts: np.ndarray) -> Tokens:
    """The captions, in NumPy, with their first words at the places ``starts`` (T,)."""
    source = np.arange(tokens.ids.shape[1]) - starts[:, None]
    there = source.clip(min=0)
    mask = np.take_along_axis(tokens.mask, there, axis=1) & (source >= 0)
    ids = np.where(mask, np.take_along_axis(tokens.ids, there, axis=1), 0)
    return Tokens(ids, mask, tokens.end + starts)
