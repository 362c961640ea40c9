"""Checkpoints whose weights stand in several entries, as one state and back."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sen_toolbox.checkpoint.renaming import named_once
from sen_toolbox.checkpoint.values import check_dense, named_faults
from sen_toolbox.messages import shown

# From each entry of a file to the beginning that its names get: '' or one that ends with a dot. Any
# other is the name of the one tensor that the entry is; None is an entry that is left out.
Entries = Mapping[str, str | None]


def join_entries(
    content: Mapping[str, Any], entries: Entries, source: str | Path, may_lack: Collection[str] = ()
) -> dict[str, Tensor]:
    """The weights of all entries as one state, without a ``module.`` prefix within an entry.

    Args:
        content: A checkpoint.
        entries: All that it may hold.
        source: Named in the error.
        may_lack: Entries of weights that need not be there.

    Raises:
        ValueError: If an entry is missing, unknown or no dense weights, or if two weights get one
            name.
    """
    start_of = {name: start for name, start in entries.items() if start is not None}
    if missing := [name for name in start_of if name not in {*content, *may_lack}]:
        raise ValueError(f'{source} lacks the entries {missing}, it has {shown([*content])}')
    if unknown := [name for name in content if name not in entries]:
        raise ValueError(f'{source} has unknown entries {shown(unknown)}, known are {[*entries]}')
    pairs: list[tuple[str, Tensor]] = []
    for name, start in start_of.items():
        if name not in content:
            continue
        value = content[name]
        if start and not start.endswith('.'):
            check_dense({name: value}, source)
            pairs.append((start, value))
        else:
            check_dense(value, f'{name} of {source}')
            if not value:
                raise ValueError(f'{name} of {source} holds no weights')
            pairs += [(start + key.removeprefix('module.'), value[key]) for key in value]
    with named_faults(source):
        # A classifier may be saved as the parameter that it is.
        return {name: value.detach() for name, value in named_once(pairs).items()}


def split_entries(state: Mapping[str, Tensor], entries: Entries) -> dict[str, Any]:
    """Inverse of :func:`join_entries`, without what that leaves out.

    Of entries with one beginning the first gets the weights.
    """
    # A special beginning before '', with which every name begins.
    starts = sorted(
        ((start, name) for name, start in entries.items() if start is not None),
        key=lambda row: len(row[0]),
        reverse=True,
    )
    content: dict[str, Any] = {}
    for key, value in state.items():
        start, name = next(row for row in starts if key.startswith(row[0]))
        if key == start:
            content[name] = value
        else:
            content.setdefault(name, {})[key.removeprefix(start)] = value
    return content
