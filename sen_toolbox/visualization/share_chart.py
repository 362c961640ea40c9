"""A chart of shares with their confidence intervals, group by group."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from PIL import Image

from sen_toolbox.visualization.figure import COLOURS, figure_image, plain_axes

COLUMNS = 3


def draw_shares(
    panels: Mapping[str, Sequence[Mapping]], *, overall: float, title: str
) -> Image.Image:
    """Draw one panel per group: a dot at each share, a bar over its interval, its count beside.

    Entries whose interval lies wholly below the overall share are red.

    Args:
        panels: Entries by the title of their panel, each with 'name', 'count', 'R1', 'low' and
            'high', the last three in percent. Panels without entries are left out.
        overall: Share of all, in percent; a line in each panel.
        title: Heading.

    Raises:
        ValueError: If no panel has an entry.
    """
    panels = {name: entries for name, entries in panels.items() if entries}
    if not panels:
        raise ValueError('there are no entries to draw')
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    names = list(panels)
    slots = [
        max(len(panels[name]) for name in names[i * columns : (i + 1) * columns])
        for i in range(lines)
    ]
    heights = [0.7 + 0.2 * count for count in slots]
    figure = Figure(figsize=(4.2 * columns, sum(heights) + 0.7), layout='constrained')
    figure.suptitle(f'{title}\n', fontsize=13, x=0.01, ha='left')
    grid = figure.subplots(lines, columns, squeeze=False, height_ratios=heights).flatten()
    lowest = min(entry['low'] for entries in panels.values() for entry in entries)
    for number, (axes, (name, entries)) in enumerate(zip(grid, panels.items(), strict=False)):
        axes.axvline(overall, color='#787e85', linewidth=1, linestyle='--')
        for place, entry in enumerate(entries):
            colour = COLOURS[1] if entry['high'] < overall else COLOURS[0]
            axes.plot([entry['low'], entry['high']], [place] * 2, color=colour, linewidth=1.6)
            axes.plot(entry['R1'], place, 'o', color=colour, markersize=5)
        labels = [f'{entry["name"]}  ({entry["count"]})' for entry in entries]
        axes.set_yticks(range(len(entries)), labels)
        axes.set_ylim(slots[number // columns] - 0.5, -0.5)
        axes.set_xlim(max(0, lowest - 3), 101)
        plain_axes(axes, name)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return figure_image(figure)
