"""Mixes pairs and varies captions."""

import random
from collections.abc import Mapping, Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from sen_toolbox.checks import checked_share
from sen_toolbox.registry import TASK_UTILS, TRANSFORMS

# Most words that are changed in a caption, as nlpaug has it.
MOST = 10
# WordNet's nouns, adjectives and verbs.
PARTS = 'nav'


@TRANSFORMS.register_module()
class MixWithAnother(BaseTransform):
    """Takes the mean of ``img`` and a random picture of the training split, and joins captions.

    The caption of the other pair follows without a space. It may be of any person, or the same
    pair; the label stays. For training alone.

    Args:
        steps: Configs of the transforms that make ``img`` of the other picture.
        prob: Probability for each pair, in 0..1.

    Raises:
        ValueError: If ``prob`` is not in 0..1.
    """

    changes = frozenset({'img', 'captions'})
    rewrites_captions = True

    def __init__(self, *, steps: Sequence[Mapping], prob: float = 0.5) -> None:
        self.steps = [TRANSFORMS.build(step) for step in steps]
        self.prob = checked_share('prob', prob)
        self._pairs: list[tuple[str, str]] | None = None

    def see_pairs(self, pairs: Sequence[dict]) -> None:
        """Notes all training pairs; the data set calls it."""
        self._pairs = [(pair['img_path'], pair['captions'][0]) for pair in pairs]

    def transform(self, results: dict) -> dict:
        """Changes ``img`` and ``captions``.

        Raises:
            KeyError: If the data set has not told its pairs, as in a test pipeline.
        """
        if self._pairs is None:
            raise KeyError('MixWithAnother is for the pipeline of a training split')
        if random.random() < self.prob:
            path, caption = self._pairs[random.randint(0, len(self._pairs) - 1)]
            other = dict(img_path=path)
            for step in self.steps:
                other = step(other)
            mean = np.add(results['img'], other['img'], dtype=np.float32) / 2
            results['img'] = np.rint(mean).astype(np.uint8)
            results['captions'] = [text + caption for text in results['captions']]
        return results


@TRANSFORMS.register_module()
class VaryCaption(BaseTransform):
    """Replaces some words of a caption by others of their meaning, or leaves out a span, or words.

    One of the three is drawn. A fifth of the words changes, at least one and at most ten.

    Args:
        synonyms: Config of what gives words that mean the same (TASK_UTILS):
            ``lemmas(word, part) -> names``. None to leave the caption where that is drawn.
        prob: Probability for each caption, in 0..1.
        share: Share of the words, in 0..1.

    Raises:
        ValueError: If ``prob`` or ``share`` is not in 0..1.
    """

    changes = frozenset({'captions'})
    rewrites_captions = True

    def __init__(self, *, synonyms: Mapping | None, prob: float = 0.5, share: float = 0.2) -> None:
        self.synonyms = None if synonyms is None else TASK_UTILS.build(synonyms)
        self.prob, self.share = checked_share('prob', prob), checked_share('share', share)
        self.actions = [self.replace_words, self.cut_span, self.delete_words]

    def see_pairs(self, pairs: Sequence[dict]) -> None:
        """Asks for a word, so that missing data stop a training at its start."""
        if self.synonyms:
            self.synonyms.lemmas('person', 'n')

    def transform(self, results: dict) -> dict:
        """Changes ``captions``."""
        results['captions'] = [self.vary(caption) for caption in results['captions']]
        return results

    def vary(self, caption: str) -> str:
        """The caption, or another form of it."""
        if random.random() >= self.prob:
            return caption
        return random.choice(self.actions)(caption)

    def replace_words(self, caption: str) -> str:
        """With random words replaced by another lemma of any of their meanings."""
        words = caption.split()
        left = self._count(words) if self.synonyms else 0
        for place in random.sample(range(len(words)), len(words)):
            if not left:
                break
            word = words[place].lower()
            names = {name for part in PARTS for name in self.synonyms.lemmas(word, part)}
            if others := sorted(names - {word}):
                words[place] = random.choice(others).replace('_', ' ')
                left -= 1
        return ' '.join(words)

    def cut_span(self, caption: str) -> str:
        """Without some words that follow each other."""
        words = caption.split()
        count = self._count(words)
        start = random.randint(0, len(words) - count)
        return ' '.join(words[:start] + words[start + count :])

    def delete_words(self, caption: str) -> str:
        """Without some random words."""
        words = caption.split()
        gone = set(random.sample(range(len(words)), self._count(words)))
        return ' '.join(word for place, word in enumerate(words) if place not in gone)

    def _count(self, words: Sequence[str]) -> int:
        """How many words change; none where nothing would remain."""
        return min(max(1, int(self.share * len(words))), MOST, max(0, len(words) - 1))
