"""Transforms of the captions: prune, tokenise, mask words."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from mmcv.transforms import BaseTransform

from sen_toolbox.checks import checked_share
from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokens import Ids, Tokenizer


@TRANSFORMS.register_module()
class PruneCaption(BaseTransform):
    """Replaces a caption by its pronouns, nouns and adjectives (pruning-based augmentation, SEN).

    Args:
        prob: Probability for each caption, in 0..1. The SEN release uses 0.2.

    Raises:
        ValueError: If ``prob`` is not in 0..1.
    """

    changes = frozenset({'captions'})

    def __init__(self, prob: float = 0.2) -> None:
        self.prob = checked_share('prob', prob)

    def transform(self, results: dict) -> dict:
        """Swaps ``captions`` for ``pruned``, each for itself.

        Raises:
            KeyError: If the data set was built without a tagger.
        """
        if 'pruned' not in results:
            raise KeyError(
                'PruneCaption needs pruned captions: give the data set a tagger, e.g. '
                "tagger=dict(type='NLTKTagger') or tagger=dict(type='RuleTagger')"
            )
        results['captions'] = [
            pruned if random.random() < self.prob else caption
            for caption, pruned in zip(results['captions'], results['pruned'], strict=True)
        ]
        return results


@TRANSFORMS.register_module()
class Tokenize(BaseTransform):
    """Turns ``captions`` into ``tokens``.

    ``known`` may hold the ids of captions, without special tokens, so that each is read once.

    Args:
        tokenizer: A tokenizer, or its config (TOKENIZERS).
    """

    deterministic = True
    changes = frozenset({'tokens'})
    known: Mapping[str, np.ndarray] = MappingProxyType({})

    def __init__(self, tokenizer: Tokenizer | Mapping) -> None:
        self.tokenizer = as_tokenizer(tokenizer)

    def transform(self, results: dict) -> dict:
        """Adds ``tokens``, those of all captions."""
        rows = [self._ids(caption) for caption in results['captions']]
        results['tokens'] = self.tokenizer.pack(rows)
        return results

    def _ids(self, caption: str) -> Ids:
        ids = self.known.get(caption)
        return self.tokenizer.encode(caption) if ids is None else ids


@TRANSFORMS.register_module()
class MaskWords(BaseTransform):
    """Masks random words of every caption, as the SEN and IRRA releases do in training.

    There it happens by accident: the code that prepares masked language modelling writes into the
    array that all losses read. Of the chosen tokens 80 % become the mask, 10 % a random token and
    10 % stay. If none is chosen, the first word is masked, unless the caption is empty: then the
    releases overwrite the end token, this does not.

    Uses Python's ``random`` in the order of the releases, so that a seed gives their draws.

    Args:
        tokenizer: What made the tokens, or its config. If the rates differ, it needs an attribute
            ``noun_or_adjective``, 0 or 1 for each id.
        noun_adjective_rate: Probability, in 0..1, for tokens that a tagger calls noun or adjective
            when it sees them alone; 92 % of CLIP's vocabulary, because pieces of words count as
            nouns. SEN release: 0.30. Equal rates of 0.15 are IRRA's.
        other_rate: Probability for other tokens. SEN release: 0.05.

    Raises:
        ValueError: If a rate is not in 0..1, the tokenizer has no mask token, or the rates differ
            and the tokenizer does not tell nouns and adjectives.
    """

    changes = frozenset({'tokens', 'word_labels'})

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | Mapping,
        noun_adjective_rate: float = 0.30,
        other_rate: float = 0.05,
    ) -> None:
        self.noun_adjective_rate = checked_share('noun_adjective_rate', noun_adjective_rate)
        self.other_rate = checked_share('other_rate', other_rate)
        self.tokenizer = as_tokenizer(tokenizer)
        self.mask_id = mask_of(self.tokenizer, 'MaskWords')
        kinds = getattr(self.tokenizer, 'noun_or_adjective', None)
        if noun_adjective_rate == other_rate:
            kinds = bytes(self.tokenizer.vocab_size)
        elif kinds is None:
            raise ValueError(
                f'{type(self.tokenizer).__name__} has no noun_or_adjective, so MaskWords cannot '
                f'take {noun_adjective_rate} for nouns and adjectives and {other_rate} for other '
                'words: make the rates equal'
            )
        self._kinds: Sequence[int] = kinds

    def transform(self, results: dict) -> dict:
        """Changes ``tokens``; adds ``word_labels`` (n, L) int64: the token chosen, 0 elsewhere."""
        tokens = results['tokens']
        ids, labels = tokens.ids.copy(), np.zeros_like(tokens.ids)
        for row, row_labels, length in zip(ids, labels, tokens.lengths.tolist(), strict=True):
            self._mask(row[:length], row_labels)
        results['tokens'] = replace(tokens, ids=ids)
        results['word_labels'] = labels
        return results

    def _mask(self, ids: np.ndarray, labels: np.ndarray) -> None:
        words, kinds = self.tokenizer.words, self._kinds
        rates = (self.other_rate, self.noun_adjective_rate)
        draw_one = random.random
        first, chosen = None, False
        for position, token in enumerate(ids.tolist()):
            if token not in words:
                continue
            first = position if first is None else first
            rate = rates[kinds[token]]
            draw = draw_one()
            if draw >= rate:
                continue
            chosen = True
            labels[position] = token
            share = draw / rate
            if share < 0.8:
                ids[position] = self.mask_id
            elif share < 0.9:
                ids[position] = random.choice(words)
        if not chosen and first is not None:
            labels[first] = ids[first]
            ids[first] = self.mask_id


def mask_of(tokenizer: Tokenizer, transform: str) -> int:
    """The id of a tokenizer's mask.

    Raises:
        ValueError: If it has none; names the transform that needs it.
    """
    if tokenizer.special.mask is None:
        raise ValueError(f'{type(tokenizer).__name__} has no mask token, which {transform} needs')
    return tokenizer.special.mask
