"""Keeps pruned captions on disk, because tagging a data set takes minutes."""

import hashlib
import json
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from rich.progress import track


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
    key = hashlib.sha256(json.dumps([tagger.version, unique]).encode()).hexdigest()[:16]
    user_cache = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'sen_toolbox'
    paths = [
        folder / f'pruned_{key}.json' for folder in (Path(data_root, '.sen_cache'), user_cache)
    ]
    # One process tags; the others wait and read its file.
    if not is_main_process():
        barrier()
    table = next((found for path in paths if (found := _read(path, unique)) is not None), None)
    if table is None:
        description = f'{type(tagger).__name__} prunes captions (once per data set)'
        table = {text: tagger.prune(text) or text for text in track(unique, description)}
        _write(paths, table)
    if is_main_process():
        barrier()
    return table


def _read(path: Path, captions: list[str]) -> dict[str, str] | None:
    try:
        table = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        # Absent, unreadable or cut off: it is made again.
        return None
    if not isinstance(table, dict) or list(table) != captions:
        return None
    return table


def _write(paths: list[Path], table: dict[str, str]) -> None:
    text = json.dumps(table)
    for path in paths:
        temporary = path.with_suffix(f'.{os.getpid()}.tmp')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding='utf-8')
            os.replace(temporary, path)
        except OSError:
            continue
        return
    print_log(
        f'the pruned captions are not kept: neither {paths[0].parent} nor {paths[1].parent} '
        'can be written (set XDG_CACHE_HOME)',
        logger='current',
        level=logging.WARNING,
    )
