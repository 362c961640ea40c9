"""What the charts share: colours, plain axes, and the way from a figure to a picture."""

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from sen_toolbox.pictures import decode_image

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#785ef0', '#3c3c3c')
DPI = 110


def plain_axes(axes: Axes, title: str) -> None:
    """Leaves out what carries no data."""
    axes.set_title(title, fontsize=10, loc='left')
    axes.tick_params(labelsize=8, length=2)
    axes.grid(color='#dee2e6', linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)


def figure_image(figure: Figure) -> Image.Image:
    """The figure as a picture, without matplotlib's global state."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=DPI)
    return Image.fromarray(decode_image(buffer.getvalue()))
