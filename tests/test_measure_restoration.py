"""What `tools/measure_restoration.py` says of restorations whose quality is known."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sen_toolbox.datasets import SyntheticPedes
from sen_toolbox.datasets.synthetic.people import COLOURS
from sen_toolbox.text.colours import OPPOSITES, exchange_colour

sys.path.insert(0, str(Path(__file__).parents[1] / 'tools'))
import measure_restoration as tool

SIZE = (64, 32)


class Painter(tool.Restorer):
    """Paints the upper half of an image: as it was, in one colour, or in that of the caption."""

    def __init__(self, recipe: dict, *, obeys: bool) -> None:
        self.recipe, self.obeys = recipe, obeys

    def paint(self, views, captions):
        original = np.stack([np.asarray(Image.open(v.path), dtype=np.float32) for v in views])
        restored = original.copy()
        for row, (view, caption) in enumerate(zip(views, captions, strict=True)):
            right = caption in view.captions
            said = next((name for name in tool.HUES if name in caption.split()), None)
            colour = COLOURS[said] if self.obeys and said else (90, 90, 90)
            restored[row, : SIZE[0] // 2] = original[row, : SIZE[0] // 2] * 0.9 if right else colour
            if said and self.obeys:
                restored[row, : SIZE[0] // 2] = colour
        return dict(original=original, restored=restored)


@pytest.fixture(scope='module')
def people(tmp_path_factory):
    return SyntheticPedes(
        data_root=tmp_path_factory.mktemp('people'),
        split='test',
        num_ids=dict(train=0, val=0, test=30),
        images_per_id=1,
        image_size=SIZE,
    )


@pytest.fixture(scope='module')
def views(people):
    return tool.views_of(people)


def test_clothes_are_found_where_they_were_drawn(people, views):
    painter = Painter(people.recipe, obeys=True)
    for view in views:
        top = painter.clothes(view, SIZE, top_alone=True)
        both = painter.clothes(view, SIZE, top_alone=False)
        assert 0.02 < top.mean() < 0.6
        assert (top & ~both).mean() < 0.01  # of the pixels, those along the hem
        rows = np.flatnonzero(top.any(axis=1))
        assert rows.mean() < 0.6 * SIZE[0]


@pytest.mark.slow
def test_a_restoration_that_needs_its_caption_is_better_by_the_right_one(people, views):
    wrong = views[1:] + views[:1]
    found = tool.errors(Painter(people.recipe, obeys=False), views, wrong)
    assert len(found) > 20
    assert (found[:, 0] < found[:, 1]).mean() > 0.9


@pytest.mark.parametrize('obeys', [True, False])
def test_the_hue_follows_the_word_only_if_the_restoration_obeys(people, views, obeys):
    found = tool.hue_follows(Painter(people.recipe, obeys=obeys), views)
    assert len(found['exchanged']) == len(found['own word']) > 0
    assert all(found['exchanged']) == obeys


def test_a_colour_word_is_exchanged_once_and_hair_keeps_its_own():
    assert exchange_colour('a woman with black hair in a red coat and a red hat') == (
        'a woman with black hair in a green coat and a red hat'
    )
    assert exchange_colour('A Red coat') == 'A green coat'
    assert exchange_colour('a bored man') == 'a bored man'
    assert not {word for word, other in OPPOSITES.items() if word == other}
