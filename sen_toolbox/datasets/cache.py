"""Keeps pruned captions and token ids on disk, because making them takes minutes or seconds."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Protocol, TypeVar
from zipfile import BadZipFile

import numpy as np
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from rich.progress import track

from sen_toolbox.text.tokens import Tokenizer

T = TypeVar('T')


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
        return {text: tagger.prune(text) or text for text in track(unique, description)}

    def parse(content: bytes) -> dict[str, str]:
        table = json.loads(content)
        if not isinstance(table, dict) or list(table) != unique:
            raise ValueError('other captions')
        return table

    return _kept(
        f'pruned_{_digest([tagger.version, unique])}.json',
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

    def make() -> TokenIds:
        ids = [
            tokenizer.encode(text)
            for text in track(unique, 'Tokenises captions (once per data set)')
        ]
        # The smallest type that holds all ids.
        dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
        flat = np.fromiter((token for row in ids for token in row), dtype=dtype)
        return TokenIds(unique, flat, np.cumsum([len(row) for row in ids], dtype=np.int64))

    def parse(content: bytes) -> TokenIds:
        with np.load(BytesIO(content)) as arrays:
            return TokenIds(unique, arrays['ids'], arrays['ends'])

    def dump(table: TokenIds) -> bytes:
        content = BytesIO()
        np.savez(content, ids=table.ids, ends=table.ends)
        return content.getvalue()

    return _kept(
        f'tokens_{_digest([tokenizer.fingerprint, unique])}.npz',
        data_root,
        make=make,
        parse=parse,
        dump=dump,
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _kept(
    name: str,
    data_root: str | Path,
    *,
    make: Callable[[], T],
    parse: Callable[[bytes], T],
    dump: Callable[[T], bytes],
) -> T:
    user_cache = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'sen_toolbox'
    paths = [folder / name for folder in (Path(data_root, '.sen_cache'), user_cache)]
    # One process makes it; the others wait and read its file.
    if not is_main_process():
        barrier()
    value = next((found for path in paths if (found := _read(path, parse)) is not None), None)
    if value is None:
        value = make()
        _write(paths, dump(value))
    if is_main_process():
        barrier()
    return value


def _read(path: Path, parse: Callable[[bytes], T]) -> T | None:
    try:
        return parse(path.read_bytes())
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        # Absent, unreadable or cut off: it is made again.
        return None


def _write(paths: list[Path], content: bytes) -> None:
    for path in paths:
        temporary = path.with_suffix(f'.{os.getpid()}.tmp')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except OSError:
            continue
        return
    print_log(
        f'{paths[0].name} is not kept: neither {paths[0].parent} nor {paths[1].parent} '
        'can be written (set XDG_CACHE_HOME)',
        logger='current',
        level=logging.WARNING,
    )
