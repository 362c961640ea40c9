"""Finds the checkpoint that an interrupted run goes on from."""

import logging
import re
from pathlib import Path

from mmengine.logging import print_log

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.resuming import check_resumable

NUMBERED = re.compile(r'(epoch|iter|stopped_iter)_(\d+)\.pth')
WITHIN_EPOCHS = re.compile(r'(stopped_)?iter_\d+\.pth')
WRITTEN = re.compile(rf'{NUMBERED.pattern}|best_.+\.pth')
STOPPED = re.compile(r'stopped_iter_\d+\.pth')


def find_newest_checkpoint(folder: str | Path) -> tuple[Path, dict] | None:
    """Newest readable checkpoint of a work dir, and its ``meta``.

    Looks at ``epoch_N.pth``, ``iter_N.pth`` and ``stopped_iter_N.pth`` and orders them by the
    iteration that they hold. The file ``last_checkpoint`` counts only where there are none, because
    it may be older than they are or name another folder. A file that is unreadable, or from which
    no training goes on, is skipped with a warning.

    Args:
        folder: The work dir; need not exist.

    Returns:
        None if there is no checkpoint, readable or not.

    Raises:
        ValueError: If there are checkpoints and none is readable.
    """
    readable, broken = [], []
    for group in _candidates(Path(folder)):
        for path in group:
            try:
                meta = resumable_meta(path)
                readable.append(((meta['iter'], meta['epoch']), path, meta))
                break
            except ValueError as error:
                broken.append(path)
                print_log(f'skips {path}: {error}', level=logging.WARNING)
    if readable:
        return max(readable, key=lambda found: found[0])[1:]
    if broken:
        raise ValueError(
            f'none of the checkpoints in {folder} is readable '
            f'({", ".join(path.name for path in broken)}): delete them to start over'
        )
    return None


def resumable_meta(path: str | Path) -> dict:
    """The ``meta`` of a checkpoint from which a training goes on.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is unreadable or lacks what a training needs; names the file.
    """
    return check_resumable(load_checkpoint_file(str(path), 'cpu'), path)


def check_unused(folder: str | Path) -> None:
    """Refuses the work dir of an earlier training for a new one, whose files would mix with its.

    Raises:
        FileExistsError: If there are checkpoints in it; says what to do.
    """
    kept = [p.name for p in Path(folder).glob('*.pth') if WRITTEN.fullmatch(p.name)]
    if kept:
        raise FileExistsError(
            f'{folder} has checkpoints of an earlier training ({", ".join(sorted(kept))}): go on '
            'with it by --resume, give another folder by --work-dir, or delete them'
        )


def _candidates(folder: Path) -> list[list[Path]]:
    # Newest first in each group; the numbers of different groups do not compare.
    groups: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.glob('*.pth'):
        if match := NUMBERED.fullmatch(path.name):
            groups.setdefault(match[1], []).append((int(match[2]), path))
    if groups:
        return [[path for _, path in sorted(group, reverse=True)] for group in groups.values()]
    pointer = folder / 'last_checkpoint'
    named = pointer.read_text(encoding='utf-8').strip() if pointer.is_file() else ''
    return [[Path(named)]] if named and Path(named).is_file() else []
