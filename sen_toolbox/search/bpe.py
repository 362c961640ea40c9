"""CLIP's byte-pair tokens without torch; equal to the transform ``Tokenize``."""

import functools
import gzip
import html
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

VOCABULARY = 'bpe_simple_vocab_16e6.txt.gz'
START_ID, END_ID = 49406, 49407
# All pairs that make a token but the last, "jekyll": its id is the mask's.
NUM_PAIRS = 48893
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
# Bytes that the vocabulary writes as themselves; the others follow as characters from 256 on.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]


def tokenize(sentences: Sequence[str], context_length: int) -> np.ndarray:
    """Token ids (n, context_length) int64: start, words, end, zeros; long sentences are cut."""
    tokens = np.zeros((len(sentences), context_length), np.int64)
    for row, sentence in zip(tokens, sentences, strict=True):
        ids = encode(sentence)[: context_length - 2]
        row[: len(ids) + 2] = [START_ID, *ids, END_ID]
    return tokens


def encode(text: str) -> list[int]:
    """Ids of a text, without start and end."""
    # Imported here because it takes half a second.
    import ftfy
    import regex

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    words = regex.findall(WORDS, ' '.join(text.split()).lower(), regex.IGNORECASE)
    return [token for word in words for token in _encode_word(word)]


@functools.lru_cache(maxsize=65536)
def _encode_word(word: str) -> tuple[int, ...]:
    number_of, pairs = _vocabulary()
    ids = [number_of[byte] for byte in word.encode()]
    # The last byte of a word is another token than the same byte inside.
    ids[-1] += 256
    while len(ids) > 1:
        # Pairs are joined in the order of the vocabulary, which is that of their ids.
        made = [pairs.get(pair, START_ID) for pair in zip(ids, ids[1:], strict=False)]
        best = min(made)
        if best == START_ID:
            break
        joined, position = [], 0
        while position < len(ids):
            joins = position < len(made) and made[position] == best
            joined.append(best if joins else ids[position])
            position += 2 if joins else 1
        ids = joined
    return tuple(ids)


@functools.cache
def _vocabulary() -> tuple[dict[int, int], dict[tuple[int, int], int]]:
    """Id of each byte, and the id that each pair of ids makes."""
    rest = [byte for byte in range(256) if byte not in PRINTABLE]
    number_of = {byte: number for number, byte in enumerate([*PRINTABLE, *rest])}
    characters = [*map(chr, PRINTABLE), *(chr(256 + n) for n in range(len(rest)))]
    symbols = [*characters, *(f'{character}</w>' for character in characters)]
    ids = {symbol: number for number, symbol in enumerate(symbols)}
    pairs = {}
    # The package is found but not imported: it loads torch.
    path = Path(find_spec('open_clip').origin).with_name(VOCABULARY)
    lines = gzip.decompress(path.read_bytes()).decode().split('\n')
    for number, line in enumerate(lines[1 : NUM_PAIRS + 1], start=len(symbols)):
        first, second = line.split()
        pairs[ids[first], ids[second]] = ids[first + second] = number
    return number_of, pairs
