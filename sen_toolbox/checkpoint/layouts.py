"""Finds how the official code of a method names its weights: a file beside its configs."""

import importlib.util
from pathlib import Path
from types import ModuleType

from mmengine.config import Config

NAME = 'official.py'


def official_layout(config: Config) -> ModuleType:
    """The module that converts checkpoints of the method of a config.

    It lies beside the config or in the folder above, or where the config's ``official`` says. It
    has

    - ``from_official(state)``: our tensors by name, in float32, of those of a checkpoint, whose
      ``module.`` prefix is dropped;
    - ``to_official(state, model)`` if there is a way back: its inverse for a state dict of a model,
      without what the release saves and never uses;
    - ``ENTRY`` if its checkpoints hold the weights elsewhere than under 'model', or ``ENTRIES`` if
      they hold them in several places, as :func:`.join_entries` takes them, with ``MAY_LACK`` if
      not all of them need be there.

    Both functions raise ValueError that names the keys they do not know, and two that would be one.

    Raises:
        FileNotFoundError: If there is none.
    """
    folder = Path(config.filename).absolute().parent
    given = config.get('official')
    places = [folder / given] if given else [folder / NAME, folder.parent / NAME]
    for place in places:
        if place.is_file():
            return load_layout(place)
    raise FileNotFoundError(
        f'{config.filename}: nothing says how the official code of this method names its weights; '
        f'looked for {" and ".join(map(str, places))} (or set official=FILE in the config)'
    )


def load_layout(path: Path) -> ModuleType:
    """A module ``official.py`` by its path; like a config it is code and runs.

    Raises:
        ValueError: If the file's name is not that of Python code.
    """
    spec = importlib.util.spec_from_file_location(f'official_{path.parent.name}', path)
    if spec is None or spec.loader is None:
        raise ValueError(f'{path} is not Python code: its name must end with .py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
