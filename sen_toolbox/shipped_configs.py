"""The configs that come with the toolbox, by name, from a wheel or from the repository."""

from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config

PACKAGE = Path(__file__).parent


def config_folder() -> Path:
    """The folder ``configs``: of the wheel (in ``.mim``, as OpenMIM has it), or of the repository.

    Raises:
        FileNotFoundError: If there is neither.
    """
    for folder in (PACKAGE / '.mim' / 'configs', PACKAGE.parent / 'configs'):
        if (folder / '_base_').is_dir():
            return folder
    raise FileNotFoundError(
        f'there are no configs beside {PACKAGE}: install the wheel, or with "pip install -e" from '
        'the repository'
    )


def config_names() -> list[str]:
    """Names that :func:`get_config` takes, such as ``sen/sen_vitb_cuhk``, in order."""
    folder = config_folder()
    return sorted(
        path.relative_to(folder).with_suffix('').as_posix()
        for path in folder.glob('*/*.py')
        if path.parent.name != '_base_' and path.name != 'official.py'
    )


def list_models(pattern: str = '*') -> list[str]:
    """Names that :func:`get_config` and ``get_model`` take, such as ``sen_vitb_cuhk``, in order.

    Args:
        pattern: With wildcards as file names have, of the name (``sen*``) or with its folder
            (``clip/*``).
    """
    return [
        name.rpartition('/')[2]
        for name in config_names()
        if fnmatchcase(name, pattern) or fnmatchcase(name.rpartition('/')[2], pattern)
    ]


def get_config(name: str, overrides: dict[str, Any] | None = None) -> 'Config':
    """The config of a name, with its values filled in.

    Args:
        name: Folder and file below ``configs``, such as ``sen/sen_vitb_cuhk``; the folder, and
            ``.py``, may be left out. Configs of ``projects/`` need the repository and are given to
            :func:`sen_toolbox.config.load_config` by path.
        overrides: Values by dotted key, as ``--cfg-options`` takes them.

    Raises:
        ValueError: If there is no config of this name; tells which are alike.
        KeyError: If nothing reads an override.
    """
    # Imported here because it loads torch, which a list of names does without.
    from sen_toolbox.config import load_config

    wanted = name.removesuffix('.py')
    names = config_names()
    found = [known for known in names if wanted in (known, known.rpartition('/')[2])]
    if not found:
        alike = get_close_matches(wanted, [*names, *(n.rpartition('/')[2] for n in names)])
        hint = f'did you mean {" or ".join(alike)}?' if alike else f'there are {", ".join(names)}'
        raise ValueError(f'there is no config {name!r}: {hint}')
    return load_config(config_folder() / f'{found[0]}.py', overrides)
