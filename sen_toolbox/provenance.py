"""By which code and libraries something was computed."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ('sen_toolbox', 'torch', 'mmengine', 'mmcv-lite', 'open_clip_torch', 'numpy')


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results, by name."""
    found = {'python': platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            # Run from the source tree, or another build of a package.
            found[name] = 'not installed'
    return found


def git_commit() -> str | None:
    """Commit of the toolbox, with '-dirty' after local changes; None outside a repository."""
    # An installed copy may lie inside the repository of another project.
    if not (ROOT / '.git').exists():
        return None
    command = ['git', '-C', str(ROOT), 'describe', '--always', '--dirty', '--abbrev=40']
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return run.stdout.strip() or None
