"""State dicts under other names, by tables of prefixes."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from sen_toolbox.messages import shown

# Prefix there, prefix here.
Table = tuple[tuple[str, str], ...]
# CLIP's towers under the name that several releases give them.
BASE_MODEL: Table = (
    ('base_model.visual.', 'backbone.image.'),
    ('base_model.', 'backbone.text.'),
)


def used_tensors(state: Mapping[str, Tensor], unused: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The tensors of an official checkpoint, numbers in float32, without a ``module.`` prefix.

    Args:
        state: Tensors by name.
        unused: Beginnings of the names to be left out.

    Raises:
        ValueError: If a name is there with the prefix and without.
    """
    state = named_once((key.removeprefix('module.'), value) for key, value in state.items())
    return {
        key: value.float() if value.is_floating_point() else value
        for key, value in state.items()
        if not key.startswith(unused)
    }


def rename(state: Mapping[str, Tensor], table: Table) -> dict[str, Tensor]:
    """The same tensors under the names of the table.

    Raises:
        ValueError: Names the keys that the table does not know, and two that it gives one name.
    """
    return named_once((name, state[key]) for key, name in new_names(state, table).items())


def named_once(pairs: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors by their names.

    Raises:
        ValueError: If two have one name.
    """
    state: dict[str, Tensor] = {}
    for name, value in pairs:
        if name in state:
            raise ValueError(f'two weights are to be {shown(name)}: one would be lost')
        state[name] = value
    return state


def new_names(keys: Iterable[str], table: Table) -> dict[str, str]:
    """From each key to its name by the first prefix in the table that it begins with.

    Raises:
        ValueError: Names the keys that the table does not know.
    """
    names, unknown = {}, []
    for key in keys:
        match = next(((a, b) for a, b in table if key.startswith(a)), None)
        if match is None:
            unknown.append(key)
        else:
            names[key] = match[1] + key.removeprefix(match[0])
    if unknown:
        raise ValueError(
            f'{len(unknown)} keys have no place in the layout, the first are {unknown[:8]}; '
            f'is this a checkpoint of another method?'
        )
    return names


def inverse(table: Table) -> Table:
    """The table that leads back."""
    return tuple((here, there) for there, here in table)
