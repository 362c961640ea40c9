"""Transforms of the captions: prune, tokenise, mask words."""

import functools
import random
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from mmcv.transforms import BaseTransform

from sen_toolbox.checks import checked_at_least, checked_share
from sen_toolbox.registry import TRANSFORMS

# Token ids of CLIP's vocabulary. The SEN and IRRA releases use 49405 as the mask.
MASK_ID = 49405
START_ID = 49406
END_ID = 49407
WORD_TABLE = Path(__file__).with_name('noun_or_adjective.npz')


@functools.cache
def clip_tokenizer():
    """Returns open_clip's tokenizer, changed so that text never yields a special token.

    - Id 49405 is the word "jekyll" to open_clip and the mask to the SEN and IRRA releases (whose
      tokenizer fails on that word). The merge that makes it, the last of the vocabulary, is
      switched off: "jekyll" is spelled in two pieces and 49405 means the mask alone.
    - ``<start_of_text>`` and ``<end_of_text>`` in a caption are plain text, as in the releases;
      otherwise such a caption would end early. So is ``<|mask|>``, here as in open_clip.
    """
    # Imported here because it loads open_clip with all its models.
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    del tokenizer.bpe_ranks[max(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)]
    clean = tokenizer.clean_fn
    special = re.compile(r'<(?=(start|end)_of_text>)')
    # A space does not change the pieces of plain text here: "<" and "start" are split anyway.
    tokenizer.clean_fn = lambda text: special.sub('< ', clean(text))
    return tokenizer


@TRANSFORMS.register_module()
class PruneCaption(BaseTransform):
    """Replaces a caption by its pronouns, nouns and adjectives (pruning-based augmentation, SEN).

    Args:
        prob: Probability for each caption, in 0..1. The SEN release uses 0.2.

    Raises:
        ValueError: If ``prob`` is not in 0..1.
    """

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
    """Turns ``captions`` into ``tokens`` with CLIP's byte-pair vocabulary.

    A row is start token, words, end token, zeros. A longer caption loses its last words; the end
    token stays the last. See ``clip_tokenizer`` for what differs from open_clip.

    ``known`` may hold the ids of captions, without start and end, so that each is tokenised once.

    Args:
        context_length: Tokens in a row, at least 3. CLIP was trained with 77.

    Raises:
        ValueError: If there is no room for a word.
    """

    known: Mapping[str, np.ndarray] = MappingProxyType({})

    def __init__(self, context_length: int = 77) -> None:
        self.context_length = checked_at_least('context_length', context_length, 3)

    def transform(self, results: dict) -> dict:
        """Adds ``tokens``, int64 (captions, context_length)."""
        captions = results['captions']
        tokens = np.zeros((len(captions), self.context_length), dtype=np.int64)
        for row, caption in zip(tokens, captions, strict=True):
            ids = self.known.get(caption)
            if ids is None:
                ids = clip_tokenizer().encode(caption)
            length = min(len(ids), self.context_length - 2)
            row[0] = START_ID
            row[1 : 1 + length] = ids[:length]
            row[1 + length] = END_ID
        results['tokens'] = tokens
        return results


@functools.cache
def _noun_or_adjective() -> bytes:
    # Bytes, because Python reads one of them faster than an element of an array.
    with np.load(WORD_TABLE) as table:
        return table['noun_or_adjective'].tobytes()


@TRANSFORMS.register_module()
class MaskWords(BaseTransform):
    """Masks random words of every caption, as the SEN and IRRA releases do in training.

    There it happens by accident: the code that prepares masked language modelling writes into the
    array that all losses read. Of the chosen tokens 80 % become the mask, 10 % a random token and
    10 % stay. If none is chosen, the first word is masked, unless the caption is empty: then the
    releases overwrite the end token, this does not.

    Uses Python's ``random`` in the order of the releases, so that a seed gives their draws.

    Args:
        noun_adjective_rate: Probability, in 0..1, for tokens that a tagger calls noun or adjective
            when it sees them alone; 92 % of the vocabulary, because pieces of words count as nouns.
            SEN release: 0.30. Equal rates of 0.15 are IRRA's.
        other_rate: Probability for other tokens. SEN release: 0.05.

    Raises:
        ValueError: If a rate is not in 0..1.
    """

    def __init__(self, *, noun_adjective_rate: float = 0.30, other_rate: float = 0.05) -> None:
        self.noun_adjective_rate = checked_share('noun_adjective_rate', noun_adjective_rate)
        self.other_rate = checked_share('other_rate', other_rate)

    def transform(self, results: dict) -> dict:
        """Changes ``tokens`` and adds ``word_labels`` of that shape: 0 or the token chosen."""
        labels = np.zeros_like(results['tokens'])
        for row, row_labels in zip(results['tokens'], labels, strict=True):
            self._mask(row, row_labels)
        results['word_labels'] = labels
        return results

    def _mask(self, tokens: np.ndarray, labels: np.ndarray) -> None:
        table, rates = _noun_or_adjective(), (self.other_rate, self.noun_adjective_rate)
        draw_one = random.random
        chosen = False
        for position, token in enumerate(tokens.tolist()):
            if token == END_ID:
                break
            if not 0 < token < MASK_ID:
                continue
            rate = rates[table[token]]
            draw = draw_one()
            if draw >= rate:
                continue
            chosen = True
            labels[position] = token
            share = draw / rate
            if share < 0.8:
                tokens[position] = MASK_ID
            elif share < 0.9:
                tokens[position] = random.choice(range(1, MASK_ID))
        if not chosen and tokens[1] != END_ID:
            labels[1] = tokens[1]
            tokens[1] = MASK_ID
