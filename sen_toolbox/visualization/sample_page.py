"""One HTML page of samples as a model sees them."""

from collections.abc import Iterable, Mapping
from html import escape

from sen_toolbox.visualization.page import data_url

STYLE = """
body { font: 15px/1.5 sans-serif; color: #212529; margin: 24px; }
section { display: flex; gap: 24px; padding: 16px 0; border-top: 1px solid #dee2e6; }
section > div { max-width: 70ch; }
img { align-self: flex-start; image-rendering: pixelated; }
code, .was { color: #787e85; font-size: 13px; }
mark { background: #ffe08a; padding: 0 3px; }
p { margin: 4px 0; }
"""


def sample_page(title: str, samples: Iterable[Mapping]) -> str:
    """Returns a page that needs no other file.

    Args:
        title: Heading of the page.
        samples: For each sample ``image`` (Pillow), ``name``, ``person_id`` and ``captions``:
            pairs of the original text and its pieces ``(text, was, ends_word)``. A piece with
            ``was`` is marked and followed by what it was.
    """
    sections = ''.join(_section(sample) for sample in samples)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<style>{STYLE}</style><h1>{escape(title)}</h1>\n{sections}</html>\n'
    )


def _section(sample: Mapping) -> str:
    image = sample['image']
    captions = ''.join(
        f'<p><b>caption</b> {escape(original)}</p><p><b>tokens</b> {_marked(pieces)}</p>'
        for original, pieces in sample['captions']
    )
    return (
        f'<section><img src="{data_url(image)}" width="{image.width}" height="{image.height}">'
        f'<div><p><b>person {sample["person_id"]}</b> <code>{escape(sample["name"])}</code></p>'
        f'{captions}</div></section>\n'
    )


def _marked(pieces: Iterable[tuple[str, str, bool]]) -> str:
    parts = []
    for text, was, ends_word in pieces:
        part = escape(text)
        if was:
            part = f'<mark>{part}</mark><span class="was">({escape(was)})</span>'
        parts.append(part + (' ' if ends_word else ''))
    return ''.join(parts).strip()
