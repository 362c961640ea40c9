"""A folder of the user's own, for what lives no longer than a process."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

NAME = 'sen-search'


def own_folder() -> Path:
    """The folder, which need not exist: in ``XDG_RUNTIME_DIR``, else in the user's cache.

    Raises:
        RuntimeError: If the user has no home.
    """
    runtime = os.environ.get('XDG_RUNTIME_DIR', '')
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        return Path(runtime, NAME)
    cache = os.environ.get('XDG_CACHE_HOME', '')
    return (Path(cache) if os.path.isabs(cache) else Path.home() / '.cache') / NAME


def make_own_folder() -> Path:
    """Makes the folder where it is missing.

    Raises:
        OSError: If it cannot be made.
        ValueError: If it is not the user's alone.
        RuntimeError: If the user has no home.
    """
    folder = own_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    check_own(folder, folder.lstat(), stat.S_ISDIR)
    return folder


def check_own(path: Path, status: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    """Refuses what somebody else has made, or may look into or change.

    Args:
        path: Named in the error.
        status: What is known of it; of a link, of the link itself.
        is_kind: ``stat.S_ISDIR`` or ``stat.S_ISREG``.

    Raises:
        ValueError: If it is of another kind, of another user, or open to others.
    """
    if not is_kind(status.st_mode):
        raise ValueError(f'{path} is a link, or of another kind than expected')
    if status.st_uid != os.geteuid():
        raise ValueError(f'{path} belongs to user {status.st_uid}, not to {os.geteuid()}')
    if status.st_mode & 0o077:
        raise ValueError(f'{path} is open to others (mode {status.st_mode & 0o777:o})')
