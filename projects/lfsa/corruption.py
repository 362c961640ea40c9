"""A second version of a caption, with words masked, deleted or replaced."""

import random
from collections.abc import Mapping, Sequence

from mmcv.transforms import BaseTransform

from sen_toolbox.checks import checked_share
from sen_toolbox.datasets.transforms.text import mask_of
from sen_toolbox.registry import TASK_UTILS, TRANSFORMS
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokenizers import CLIPTokenizer

# WordNet's parts of speech by the tags of the Penn Treebank.
PARTS = {'NN': 'n', 'JJ': 'a', 'VB': 'v'}


@TRANSFORMS.register_module()
class CorruptCaption(BaseTransform):
    """Adds ``second_tokens``, those of each caption with some of its words changed.

    Of the words that are changed 40 % become masks, one for each token, 40 % are deleted and 20 %
    replaced by a word that means the same. For training alone;
    ``PackPair(per_caption=['second_tokens'])`` puts them into the batch.

    Args:
        tokenizer: CLIP's, or its config.
        tagger: Config of what tags words (TASK_UTILS): ``tag(words) -> tags`` of the Penn Treebank.
        synonyms: Config of what gives words that mean the same: ``lemmas(word, part) -> names``.
            None to leave words that would be replaced.
        kinds: Beginnings of the tags of words that may be changed; empty for all, punctuation too.
        rate: Probability for each of them, in 0..1.
        exact: Whether a noun is what is tagged NN, an adjective JJ, a verb VB and nothing else, as
            in the release by accident; else all whose tags begin so.
        otherwise: Part of speech of other words; None to leave them.
        key: Where the tokens are put; 'tokens' to change those of all heads.

    Raises:
        ValueError: If the rate is not in 0..1, or the tokenizer is not CLIP's.
    """

    changes = frozenset({'tokens', 'second_tokens'})

    def __init__(
        self,
        *,
        tokenizer: CLIPTokenizer | Mapping,
        tagger: Mapping,
        synonyms: Mapping | None,
        kinds: Sequence[str] = tuple(PARTS),
        rate: float = 0.6,
        exact: bool = True,
        otherwise: str | None = 'v',
        key: str = 'second_tokens',
    ) -> None:
        self.tokenizer = as_tokenizer(tokenizer)
        if not isinstance(self.tokenizer, CLIPTokenizer):
            raise ValueError(
                f'CorruptCaption takes CLIPTokenizer, got {type(self.tokenizer).__name__}: no '
                'other tells the words of a caption'
            )
        self.mask_id = mask_of(self.tokenizer, 'CorruptCaption')
        self.tagger = TASK_UTILS.build(tagger)
        self.synonyms = None if synonyms is None else TASK_UTILS.build(synonyms)
        self.kinds, self.rate = tuple(kinds), checked_share('rate', rate)
        self.exact, self.otherwise, self.key = exact, otherwise, key

    def see_pairs(self, pairs: Sequence[dict]) -> None:
        """Asks for a word, so that missing data stop a training at its start."""
        if self.synonyms:
            self.synonyms.lemmas('person', 'n')

    def transform(self, results: dict) -> dict:
        """Adds a row for each of ``captions``."""
        rows = [self.corrupt(caption) for caption in results['captions']]
        results[self.key] = self.tokenizer.pack(rows)
        return results

    def corrupt(self, caption: str) -> list[int]:
        """Ids of a corrupted caption, without special tokens."""
        words, found = self.tokenizer.words_of(caption), []
        tags = self.tagger.tag([word for word, _ in words])
        for (word, ids), tag in zip(words, tags, strict=True):
            if self.kinds and not tag.startswith(self.kinds):
                found += ids
                continue
            share = self.draw() / self.rate if self.rate else 1.0
            if share >= 1:
                found += ids
            elif share < 0.4:
                found += [self.mask_id] * len(ids)
            elif share >= 0.8:
                found += self._replaced(word, ids, tag)
        return found

    def _replaced(self, word: str, ids: list[int], tag: str) -> list[int]:
        parts = {part for name, part in PARTS.items() if tag.startswith(name)}
        part = PARTS.get(tag) if self.exact else next(iter(parts), None)
        part = part or self.otherwise
        lemmas = self.synonyms.lemmas(word, part) if self.synonyms and part else []
        if not lemmas:
            return ids
        lemma = self.choose(lemmas)
        if '_' in lemma:
            return self.tokenizer.encode(lemma.replace('_', ' '))
        return self.tokenizer.encode_as_it_is(lemma)

    def draw(self) -> float:
        """A number in 0..1 for a word."""
        return random.random()

    def choose(self, lemmas: list[str]) -> str:
        """One of the names."""
        return random.choice(lemmas)
