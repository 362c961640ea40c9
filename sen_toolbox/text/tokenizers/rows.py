"""What every tokenizer does alike: fill rows, leave out their ends, name itself."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import numpy as np

from sen_toolbox.checks import checked_at_least, checked_whole_number
from sen_toolbox.text.tokens import Ids, SpecialTokens, Tokens

MASK_TEXT = '[mask]'
# Beyond any caption; a row that a model file asks for takes memory.
LONGEST = 10_000


def pack_rows(
    rows: Sequence[Ids],
    special: SpecialTokens,
    length: int,
    *,
    first_stands_for_all: bool = False,
) -> Tokens:
    """Fills rows with start token, words, end token and padding.

    A row without any token is one token of padding that counts as real, since recurrent networks
    take no empty sequence.

    Args:
        rows: Ids of the words of each caption.
        special: The special tokens; a row has no start or end where they are None.
        length: Columns L; of a longer caption the first words stay, and its end token.
        first_stands_for_all: Whether the first token stands for the caption, and a caption that is
            too long is cut behind its end token is added, so that it has none (BERT).
    """
    begin = 0 if special.start is None else 1
    room = length - begin - (special.end is not None and not first_stands_for_all)
    ids = np.full((len(rows), length), special.pad, dtype=np.int64)
    counts = np.empty(len(rows), dtype=np.int64)
    if special.start is not None:
        ids[:, 0] = special.start
    for number, row in enumerate(rows):
        stop = begin + min(len(row), room)
        ids[number, begin:stop] = row[: stop - begin]
        if special.end is not None and stop < length:
            ids[number, stop] = special.end
            stop += 1
        counts[number] = max(stop, 1)
    mask = np.arange(length) < counts[:, None]
    return Tokens(ids, mask, np.zeros_like(counts) if first_stands_for_all else counts - 1)


def without_padding(ids: Ids, pad: int) -> list[int]:
    """The ids before the padding at the end."""
    ids = [int(token) for token in ids]
    count = len(ids)
    while count and ids[count - 1] == pad:
        count -= 1
    return ids[:count]


def check_context_length(length: int, special: SpecialTokens) -> None:
    """Refuses a context without room for a word, or beyond ``LONGEST``.

    Raises:
        ValueError: If it is one.
    """
    least = 1 + (special.start is not None) + (special.end is not None)
    # A model file may hold anything in its place.
    checked_at_least('context_length', checked_whole_number('context_length', length), least)
    if length > LONGEST:
        raise ValueError(f'context_length must be at most {LONGEST}, got {length}')


def fingerprint_of(description: Mapping, *packages: str) -> str:
    """Names a tokenizer by its config and the versions of the packages that it calls."""
    versions = [f'{name} {version(name)}' for name in packages]
    content = json.dumps([dict(description), versions], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def longest_run(flags: Sequence[bool]) -> range:
    """Where most flags in a row are true."""
    edges = [-1, *(number for number, flag in enumerate(flags) if not flag), len(flags)]
    runs = [range(left + 1, right) for left, right in zip(edges, edges[1:], strict=False)]
    return max(runs, key=len)
