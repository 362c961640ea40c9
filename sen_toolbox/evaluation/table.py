"""Retrieval metrics as a text table."""

from collections.abc import Mapping

from prettytable import PrettyTable

DIRECTIONS = {'t2i': 'text-to-image', 'i2t': 'image-to-text'}


def metrics_table(metrics: Mapping[str, float], title: str | None = None) -> str:
    """Lay out metrics with one row per search direction and two decimals.

    Args:
        metrics: Percent by '<direction>/<measure>', for example 't2i/R1'; the columns follow the
            order of the first direction's measures.
        title: Shown above the column names.

    Raises:
        ValueError: If a key is not of that form, or a direction lacks a measure of another.

    >>> print(metrics_table({'t2i/R1': 61.239, 't2i/mAP': 50.0}))
    +---------------+-------+-------+
    |   direction   |   R1  |  mAP  |
    +---------------+-------+-------+
    | text-to-image | 61.24 | 50.00 |
    +---------------+-------+-------+
    """
    rows: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        direction, _, measure = key.partition('/')
        if direction not in DIRECTIONS or not measure:
            raise ValueError(
                f"metric {key!r} is not '<direction>/<measure>' with a direction among "
                f'{sorted(DIRECTIONS)}'
            )
        rows.setdefault(direction, {})[measure] = value
    if not rows:
        raise ValueError('there are no metrics to lay out')
    measures = list(next(iter(rows.values())))
    table = PrettyTable(['direction', *measures], title=title)
    for direction, values in rows.items():
        if set(values) != set(measures):
            raise ValueError(f'{direction!r} has the measures {list(values)}, not {measures}')
        table.add_row([DIRECTIONS[direction], *(f'{values[name]:.2f}' for name in measures)])
    return table.get_string()
