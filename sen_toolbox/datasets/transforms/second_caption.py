"""A second caption of the person in each training sample."""

import random
from collections.abc import Mapping, Sequence

from mmcv.transforms import BaseTransform

from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokens import Tokenizer


@TRANSFORMS.register_module()
class SecondCaption(BaseTransform):
    """Adds ``second_tokens``, of a random caption of another image of the same person.

    Of a person with one image it is another caption of that image, or the same if there is none.
    For training alone. ``PackPair(per_caption=['second_tokens'])`` puts them into the batch.

    Args:
        tokenizer: A tokenizer, or its config (TOKENIZERS).
    """

    changes = frozenset({'second_tokens'})

    def __init__(self, tokenizer: Tokenizer | Mapping) -> None:
        self.tokenizer = as_tokenizer(tokenizer)
        self._captions: dict[int, list[tuple[str, str]]] = {}

    def see_pairs(self, pairs: Sequence[dict]) -> None:
        """Notes which captions each person has; the data set calls it with all training pairs."""
        self._captions = {}
        for pair in pairs:
            captions = self._captions.setdefault(pair['person_id'], [])
            captions += [(pair['img_path'], text) for text in pair['captions']]

    def transform(self, results: dict) -> dict:
        """Adds ``second_tokens``, one row for each of ``captions``.

        Raises:
            KeyError: If the data set has not told its pairs, as in a test pipeline.
        """
        if not self._captions:
            raise KeyError('SecondCaption is for the pipeline of a training split')
        texts = [self.draw(results, caption) for caption in results['captions']]
        results['second_tokens'] = self.tokenizer(texts)
        return results

    def draw(self, record: dict, caption: str) -> str:
        """The second caption of a pair."""
        captions = self._captions[record['person_id']]
        elsewhere = [text for path, text in captions if path != record['img_path']]
        others = elsewhere or [text for _, text in captions if text != caption] or [caption]
        return random.choice(others)
