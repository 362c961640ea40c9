"""Keeps pruned captions and token ids on disk, because making them takes minutes or seconds."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from io import BytesIO
from pathlib import Path
from typing import Protocol, TypeVar, cast

import numpy as np
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from rich.progress import track

from sen_toolbox.io import read_regular, write_atomically
from sen_toolbox.text.tokens import Tokenizer

T = TypeVar('T')
# Characters of a SHA-256, which a file begins with.
DIGEST = 64
# Below the folder of a data set.
CACHE_FOLDER = '.sen_cache'


class Tagger(Protocol):
    """What registers under TASK_UTILS to prune captions."""

    version: str

    def prune(self, caption: str) -> str:
        """Returns the part of the caption to keep."""


def pruned_captions(
    captions: Collection[str], *, tagger: Tagger, data_root: str | Path
) -> dict[str, str]:
    """Returns the pruned form of every caption, from disk if it was made before.

    A caption of which nothing would remain is kept whole: the release would train on an empty text
    and then overwrite its end token with a mask.

    Args:
        captions: The captions; repetitions are pruned once.
        tagger: Prunes one caption; its ``version`` and the captions name the file.
        data_root: The file lies in its folder ``.sen_cache``, or in the user's cache folder if
            that cannot be written.
    """
    unique = sorted(set(captions))

    def make() -> dict[str, str]:
        description = f'{type(tagger).__name__} prunes captions (once per data set)'
        with _tracked(unique, description) as texts:
            return {text: tagger.prune(text) or text for text in texts}

    def parse(content: bytes) -> dict[str, str]:
        table = json.loads(content)
        if not isinstance(table, dict) or list(table) != unique:
            raise ValueError('it holds other captions')
        if not all(isinstance(pruned, str) for pruned in table.values()):
            raise ValueError('a caption is not text')
        return table

    return _kept(
        'pruned',
        [tagger.version, unique],
        data_root,
        make=make,
        parse=parse,
        dump=lambda table: json.dumps(table).encode(),
    )


class TokenIds(Mapping):
    """Token ids by caption, without special tokens, in two arrays; as lists they take ten times.

    Args:
        captions: The captions.
        ids: Ids of all captions one after the other, unsigned.
        ends: Where in ``ids`` each caption ends.
    """

    def __init__(self, captions: Sequence[str], ids: np.ndarray, ends: np.ndarray) -> None:
        self._rows = {caption: row for row, caption in enumerate(captions)}
        self.ids = ids
        self.ends = ends

    def __getitem__(self, caption: str) -> np.ndarray:
        row = self._rows[caption]
        return self.ids[self.ends[row - 1] if row else 0 : self.ends[row]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def token_ids(
    captions: Collection[str], *, tokenizer: Tokenizer, data_root: str | Path
) -> TokenIds:
    """Returns the token ids of every caption, from disk if they were made before.

    Args:
        captions: The captions; repetitions are tokenised once.
        tokenizer: Encodes one caption; its ``fingerprint`` and the captions name the file.
        data_root: As for ``pruned_captions``.
    """
    unique = sorted(set(captions))
    # The smallest type that holds all ids.
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)

    def make() -> TokenIds:
        with _tracked(unique, 'Tokenises captions (once per data set)') as texts:
            ids = [tokenizer.encode(text) for text in texts]
        flat = np.fromiter((token for row in ids for token in row), dtype=dtype)
        return TokenIds(unique, flat, np.cumsum([len(row) for row in ids], dtype=np.int64))

    def parse(content: bytes) -> TokenIds:
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            ids, ends = arrays['ids'], arrays['ends']
        if (ids.dtype, ids.ndim, ends.dtype, ends.shape) != (dtype, 1, np.int64, (len(unique),)):
            raise ValueError(f'{ids.dtype} {ids.shape} and {ends.dtype} {ends.shape} are not ids')
        borders = np.concatenate([[0], ends])
        if (borders[1:] < borders[:-1]).any() or borders[-1] != len(ids):
            raise ValueError('captions end before they begin, or beyond the ids')
        if ids.max(initial=0) >= tokenizer.vocab_size:
            raise ValueError(f'the id {ids.max()} is not in a vocabulary of {tokenizer.vocab_size}')
        return TokenIds(unique, ids, ends)

    def dump(table: TokenIds) -> bytes:
        content = BytesIO()
        np.savez(content, ids=table.ids, ends=table.ends)
        return content.getvalue()

    return _kept(
        'tokens',
        [tokenizer.fingerprint, unique],
        data_root,
        make=make,
        parse=parse,
        dump=dump,
    )


def _tracked(captions: Sequence[str], description: str) -> AbstractContextManager[Iterator[str]]:
    """Captions below a bar that is closed at once if one of them raises.

    A bar that is left to the garbage collector can stop the next one for ever.
    """
    # A generator, though rich says no more than that it can be iterated.
    return closing(cast(Generator[str, None, None], track(captions, description)))


def _kept(
    kind: str,
    made_of: object,
    data_root: str | Path,
    *,
    make: Callable[[], T],
    parse: Callable[[bytes], T],
    dump: Callable[[T], bytes],
) -> T:
    user_cache = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'sen_toolbox'
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
    name = f'{kind}_{key[:16]}.kept'
    paths = [folder / name for folder in (Path(data_root, CACHE_FOLDER), user_cache)]
    # One process makes it; the others wait and read its file.
    if not is_main_process():
        barrier()
    value = next((found for path in paths if (found := _read(path, key, parse)) is not None), None)
    if value is None:
        value = make()
        content = dump(value)
        _write(paths, _seal(key, content) + content)
    if is_main_process():
        barrier()
    return value


def _read(path: Path, key: str, parse: Callable[[bytes], T]) -> T | None:
    """What a file holds; None if it has to be made (again)."""
    try:
        content = read_regular(path)
        if content[:DIGEST] != _seal(key, content[DIGEST:]):
            raise ValueError('its content is not what was written for these captions')
        return parse(content[DIGEST:])
    except FileNotFoundError:
        return None
    # What lies there may be anything, and what reading it raises too.
    except Exception as error:
        print_log(
            f'{path} is not used, it is made again ({" ".join(str(error).split())})',
            logger='current',
            level=logging.WARNING,
        )
        return None


def _seal(key: str, content: bytes) -> bytes:
    """What a file begins with, so that damage, and another file of this name, is noticed."""
    return hashlib.sha256(key.encode() + content).hexdigest().encode()


def _write(paths: list[Path], content: bytes) -> None:
    for path in paths:
        with suppress(OSError):
            write_atomically(path, content)
            return
    print_log(
        f'{paths[0].name} is not kept: neither {paths[0].parent} nor {paths[1].parent} '
        'can be written (set XDG_CACHE_HOME)',
        logger='current',
        level=logging.WARNING,
    )
