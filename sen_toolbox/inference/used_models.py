"""Which models of open_clip the user of this machine has named himself."""

import os
from pathlib import Path


def remember(name: str) -> None:
    """Notes a name that was used; without a place to write to, it is not remembered."""
    if was_used(name):
        return
    try:
        _record().parent.mkdir(parents=True, exist_ok=True)
        # One short line, which the system appends whole.
        with _record().open('a', encoding='utf-8') as file:
            file.write(f'{name}\n')
    except OSError:
        return


def was_used(name: str) -> bool:
    """Whether a name was used on this machine before."""
    try:
        return name in _record().read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError):
        return False


def _record() -> Path:
    folder = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(folder).expanduser() / 'sen_toolbox' / 'used_models.txt'
