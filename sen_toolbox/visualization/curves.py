"""Learning curves of one or several runs, from what MMEngine logs as numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from sen_toolbox.visualization.figure import COLOURS, figure_image, plain_axes

COLUMNS = 3
# Validated measures that are drawn without being asked for.
MEASURES = ('t2i/R1', 't2i/mAP', 'i2t/R1')


def read_scalars(path: str | Path) -> list[dict]:
    """What a run logged, in order: training rows have 'iter', validation rows 'step' alone.

    Args:
        path: A file ``scalars.json``, or a work dir: of all starts of a resumed run, the later one
            counts where they overlap.

    Raises:
        FileNotFoundError: If there is no such file, or none below the folder.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(
            f'{path} is neither a scalars.json nor a work dir with a */vis_data/scalars.json'
        )
    rows: dict[tuple[bool, int], dict] = {}
    for file in files:
        for line in file.read_text(encoding='utf-8').splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                # A training that is killed may leave a part of its last line.
                continue
            if 'step' in row:
                rows['iter' in row, row['step']] = row
    return [rows[place] for place in sorted(rows)]


def default_keys(runs: Mapping[str, Sequence[Mapping]]) -> list[str]:
    """The objective, each head's loss, the learning rate and the validated measures, if logged."""
    logged = list(dict.fromkeys(key for rows in runs.values() for row in rows for key in row))
    losses = sorted(key for key in logged if key.endswith('loss') and key != 'loss')
    wanted = [*MEASURES, 'loss', *losses, 'lr']
    return [key for key in wanted if key in logged]


def draw_learning_curves(
    runs: Mapping[str, Sequence[Mapping]], *, keys: Sequence[str], title: str = 'Learning curves'
) -> Image.Image:
    """Draw one panel per key with one line per run.

    Args:
        runs: Rows as :func:`read_scalars` gives them, by the name of the run; at most 8.
        keys: What to draw.
        title: Heading.

    Raises:
        ValueError: If there are no runs, too many of them, or no keys.
        KeyError: If no run logged a key.
    """
    if not 1 <= len(runs) <= len(COLOURS) or not keys:
        raise ValueError(
            f'curves show 1 to {len(COLOURS)} runs and at least one key, got {len(runs)} runs and '
            f'keys {list(keys)}'
        )
    columns = min(COLUMNS, len(keys))
    lines = -(-len(keys) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * lines + 0.8), layout='constrained')
    figure.suptitle(title, fontsize=13, x=0.01, ha='left')
    grid = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, key in zip(grid, keys, strict=False):
        _draw_panel(axes, key, runs)
    for axes in grid[len(keys) :]:
        axes.set_axis_off()
    if len(runs) > 1:
        handles = [grid[0].plot([], [], color=c)[0] for _, c in zip(runs, COLOURS, strict=False)]
        figure.legend(
            handles, list(runs), loc='outside lower left', ncols=4, frameon=False, fontsize=9
        )
    return figure_image(figure)


def _draw_panel(axes, key: str, runs: Mapping[str, Sequence[Mapping]]) -> None:
    drawn = False
    for rows, colour in zip(runs.values(), COLOURS, strict=False):
        points = [(row['step'], row[key], 'iter' in row) for row in rows if key in row]
        if not points:
            continue
        steps, values, in_training = zip(*points, strict=True)
        marker = None if any(in_training) and len(points) > 1 else 'o'
        axes.plot(steps, values, color=colour, linewidth=1.6, marker=marker, markersize=4)
        axes.set_xlabel('iteration' if any(in_training) else 'epoch', fontsize=8)
        drawn = True
    if not drawn:
        known = sorted({k for rows in runs.values() for row in rows for k in row})
        raise KeyError(f'no run logged {key!r}; logged are {known}')
    plain_axes(axes, key)
