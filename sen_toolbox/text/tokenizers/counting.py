"""Which words a training split has: how they are split, counted, written and read again."""

import json
import string
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from sen_toolbox.messages import shown

ORDERS = ('appearance', 'frequency')
COMMAND = 'python tools/make_vocabulary.py CONFIG'


class Splitting(TypedDict):
    """Options of :func:`split_words`."""

    lower_case: bool
    deleted: str
    separators: str


def split_words(
    text: str, *, lower_case: bool = True, deleted: str = string.punctuation, separators: str = ''
) -> list[str]:
    """The words of a text.

    Args:
        text: A caption.
        lower_case: Whether words are lower-cased.
        deleted: Characters that are deleted: "t-shirt" becomes "tshirt".
        separators: Characters at which words end, besides white space.
    """
    text = text.lower() if lower_case else text
    # A character that stands in both separates.
    table = str.maketrans({**dict.fromkeys(deleted, ''), **dict.fromkeys(separators, ' ')})
    return text.translate(table).split()


def build_vocabulary(
    captions: Iterable[str],
    *,
    lower_case: bool = True,
    deleted: str = string.punctuation,
    separators: str = '',
    least_count: int = 1,
    order: str = 'appearance',
    known: Collection[str] | None = None,
) -> list[str]:
    """The words of some captions, in the order of their ids.

    Args:
        captions: The captions of a training split, in its order.
        lower_case: As for :func:`split_words`, like the next two.
        deleted: Characters that are deleted.
        separators: Characters at which words end, besides white space.
        least_count: How often a word must occur.
        order: 'appearance', of the first occurrence, or 'frequency', the most frequent first.
        known: Other words are left out (Dual Path: those of word2vec); None for all.

    Raises:
        ValueError: If there is no such order.
    """
    if order not in ORDERS:
        raise ValueError(f'order is one of {", ".join(ORDERS)}, got {order!r}')
    options = Splitting(lower_case=lower_case, deleted=deleted, separators=separators)
    counts = Counter(word for text in captions for word in split_words(text, **options))
    # Both keep the order of the first occurrence, the latter among equals.
    pairs = counts.items() if order == 'appearance' else counts.most_common()
    return [
        word for word, count in pairs if count >= least_count and (known is None or word in known)
    ]


def counting_options(
    *,
    lower_case: bool = True,
    deleted: str = string.punctuation,
    separators: str = '',
    counting: Mapping | None = None,
    **_: object,
) -> dict:
    """With which options of :func:`build_vocabulary` the words of a tokenizer are counted.

    Args:
        lower_case: Of the tokenizer, like the next two.
        deleted: Characters that are deleted.
        separators: Characters at which words end, besides white space.
        counting: What the tokenizer's config says besides, or otherwise.
        **_: The tokenizer's other arguments.
    """
    options = dict(lower_case=lower_case, deleted=deleted, separators=separators)
    return options | dict(least_count=1, order='appearance') | dict(counting or {})


def write_vocabulary(path: Path, words: Sequence[str], options: Mapping) -> None:
    """Writes the file that :class:`VocabularyTokenizer` reads: words and how they were counted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = dict(counting=dict(options), words=list(words))
    path.write_text(json.dumps(content, indent=0, ensure_ascii=False), encoding='utf-8')


def read_vocabulary(path: Path, options: Mapping) -> list[str]:
    """Words of a file of :func:`write_vocabulary`.

    Args:
        path: The file.
        options: Those with which they should be counted.

    Raises:
        FileNotFoundError: If there is no such file; says how to make it.
        ValueError: If it holds something else or was made with other options.
    """
    if not path.is_file():
        raise FileNotFoundError(f'there is no vocabulary {path}: make it by {COMMAND}')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        words, made = content['words'], content['counting']
        if not (isinstance(words, list) and isinstance(made, dict)):
            raise TypeError(f'words {shown(words)}, counting {shown(made)}')
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is not a file of words ({error!r}): make it by {COMMAND}'
        ) from error
    different = [
        f'{key}={made.get(key)!r} for {value!r}'
        for key, value in options.items()
        if made.get(key) != value
    ]
    if different:
        raise ValueError(
            f'{path} was made with {", ".join(different)} of the config: make it again by {COMMAND}'
        )
    return words
