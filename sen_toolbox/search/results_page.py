"""The results of a search as one HTML page that needs nothing beside it."""

import base64
import html
import io
from collections.abc import Sequence

from PIL import Image

from sen_toolbox.messages import printable
from sen_toolbox.search.images import read_image
from sen_toolbox.search.result import Result

# Every page holds it, and so is known as one.
PAGE_MARK = '<meta name="generator" content="sen-search">'
THUMBNAIL = (160, 240)  # width, height in pixels
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #212529; background: #fff }
ol { display: flex; flex-wrap: wrap; gap: 1rem; list-style: none; padding: 0 }
li { width: 160px } img { height: 240px; width: 160px; object-fit: contain; background: #f1f3f5 }
p { margin: .2rem 0; overflow-wrap: anywhere; font-size: 13px; color: #5a6067 }
"""


def results_page(query: str, results: Sequence[Result]) -> str:
    """A page with the images in it, best first.

    An image that can no longer be read leaves its place empty.

    Args:
        query: What was searched for.
        results: What was found.
    """
    items = '\n'.join(
        f'<li>{_thumbnail(result.picture)}<p><b>{result.rank}</b> &middot; {result.score:.3f}'
        f'{_text(" · " + result.identity if result.identity is not None else "")}</p>'
        f'<p>{_text(result.path)}</p><p>{_text(result.where)}</p>'
        f'{"<p><b>the file is gone</b></p>" if result.is_missing else ""}</li>'
        for result in results
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'{PAGE_MARK}'
        f'<title>{_text(query)}</title><style>{STYLE}</style></head>\n'
        f'<body><h1>{_text(query)}</h1>\n<ol>\n{items}\n</ol></body></html>\n'
    )


def _text(text: str) -> str:
    return html.escape(printable(text))


def _thumbnail(path: str) -> str:
    try:
        image = Image.fromarray(read_image(path))
    except ValueError:
        return '<img alt="cannot be read">'
    image.thumbnail(THUMBNAIL)
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="" src="data:image/jpeg;base64,{data}">'
