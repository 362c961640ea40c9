"""Which model an index asks for, when its user names none."""

import os
from pathlib import Path

from sen_toolbox.hub import HUB_NAME
from sen_toolbox.inference.used_models import was_used
from sen_toolbox.search.index import open_index
from sen_toolbox.search.index_database import IndexDatabase


def model_of_index(index: str | os.PathLike, uri: str | None = None) -> str | None:
    """The name of the model that made an index; None if it is a file, or there is no index.

    Raises:
        ValueError: If the model was never used on this machine. The index may come from elsewhere,
            and nothing in it chooses what is loaded.
    """
    name = _made_with(index, uri)
    # No other form is put into a command that the user may copy.
    if name is None or HUB_NAME.fullmatch(name) is None:
        return None
    if not was_used(name):
        raise ValueError(
            f'index {os.fspath(index)} was made with {name}, which was not used on this '
            f'machine yet: if you want that model, name it yourself, --model {name} '
            '(model=...)'
        )
    return name


def _made_with(index: str | os.PathLike, uri: str | None) -> str | None:
    """What an index says; what is wrong with it is told when it is used."""
    if uri is not None:
        try:
            return open_index(index, uri=uri).model.name
        except (FileNotFoundError, ValueError):
            return None
    try:
        # Without counting its entries, as whoever uses it does.
        with IndexDatabase(Path(index)).reading() as (_, values):
            return values.model.name
    except (OSError, ValueError):
        return None
