"""One HTML page of pictures that needs no other file."""

import base64
import io
from collections.abc import Iterable
from html import escape

from PIL import Image

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #212529; margin: 24px; }
section { padding: 8px 0 24px; border-top: 1px solid #dee2e6; }
h2 { margin: 8px 0 0; } p { margin: 4px 0 12px; max-width: 90ch; color: #5a6067; }
img { max-width: 100%; }
"""


def board_page(title: str, boards: Iterable[tuple[str, str, Image.Image]]) -> str:
    """Returns the page.

    Args:
        title: Heading of the page.
        boards: Heading, explanation and picture of each section.
    """
    sections = ''.join(
        f'<section><h2>{escape(heading)}</h2><p>{escape(note)}</p>'
        f'<img src="{data_url(board)}" alt="{escape(heading)}"></section>\n'
        for heading, note, board in boards
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<style>{STYLE}</style><h1>{escape(title)}</h1>\n{sections}</html>\n'
    )


def data_url(image: Image.Image) -> str:
    """The picture as PNG within an address."""
    buffer = io.BytesIO()
    image.save(buffer, format='PNG', optimize=True)
    return f'data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode("ascii")}'
