"""Measures on drawn people whether words guide a restoration.

On the test split of a SyntheticPedes:
  error    squared error of the hidden pixels of the clothes, by the right and by a wrong caption
  colour   whether an exchanged colour word of the upper garment gives its hidden pixels that hue

Which pixels are clothes is known exactly: where the same view changes if the clothes change.
"""

import argparse
import colorsys
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sen_toolbox.command_line import add_cfg_options, read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--num', type=int, default=400, help='images, evenly spread')
    parser.add_argument('--split', default='test', help='split to measure on')
    parser.add_argument('--out', type=Path, help='JSON file to write')
    add_cfg_options(parser)
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

import numpy as np
import torch
from PIL import Image

from sen_toolbox.config import load_config
from sen_toolbox.datasets.synthetic import Person, draw_view, sample_people
from sen_toolbox.datasets.synthetic.people import COLOURS
from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.registry import DATASETS
from sen_toolbox.visualization.results import illustrating_head, other_person

# Colours that one word names and whose hues are far apart.
HUES = ('red', 'yellow', 'green', 'blue', 'purple')
BATCH = 64


@dataclass(frozen=True)
class View:
    """One image of the split, and whose it is."""

    path: str
    person_id: int
    person: Person
    number: int
    captions: list[str]


def views_of(dataset) -> list[View]:
    """The images of a split of drawn people, which are sampled again from its seed."""
    people = sample_people(sum(dataset.recipe['num_ids'].values()), seed=dataset.recipe['seed'])
    views = []
    for index in range(len(dataset)):
        record = dataset.get_data_info(index)
        number = int(Path(record['img_path']).stem.split('_')[1])
        person_id = record['person_id']
        person = people[person_id - 1]
        views.append(View(record['img_path'], person_id, person, number, record['captions']))
    return views


class Restorer:
    """Paints images by captions and says which pixels were hidden.

    Args:
        encoder: A trained model with a restoration.
        recipe: The numbers that the set was drawn with.
    """

    def __init__(self, encoder: Encoder, recipe: dict) -> None:
        self.encoder, self.recipe = encoder, recipe
        self.head = illustrating_head(encoder.model)
        if self.head is None:
            raise ValueError('no head of the model restores images')

    def paint(self, views: Sequence[View], captions: Sequence[str]) -> dict[str, np.ndarray]:
        """Columns of the head's board, (B, rows, columns, 3) in 0..255 each."""
        prepared = [self.encoder.processor.prepare_file(view.path) for view in views]
        model = self.encoder.model
        columns = self.head.illustrate(
            self.encoder.normalised(np.stack(prepared)),
            self.encoder.tokens(captions),
            model.backbone,
            to_pixels=model.data_preprocessor.to_pixels,
        )
        return {
            title: images.clamp(0, 255).permute(0, 2, 3, 1).cpu().numpy()
            for title, images in columns.items()
        }

    def clothes(self, view: View, size: tuple[int, int], *, top_alone: bool) -> np.ndarray:
        """Where (rows, columns) the clothes are, or the upper garment alone."""
        drawn = self._draw(view, view.person)
        changed = replace(view.person, top_colour=_other(view.person.top_colour))
        if view.person.second_colour != 'none':
            changed = replace(changed, second_colour=_other(view.person.second_colour))
        if not top_alone:
            changed = replace(changed, bottom_colour=_other(view.person.bottom_colour))
        differs = np.abs(drawn - self._draw(view, changed)).max(axis=2) > 24
        image = Image.fromarray(differs.astype(np.uint8) * 255)
        return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR)) > 192

    def _draw(self, view: View, person: Person) -> np.ndarray:
        size, seed = tuple(self.recipe['image_size']), self.recipe['seed']
        drawn = draw_view(person, view.person_id, view.number, seed=seed, image_size=size)
        return drawn.astype(np.float32)


def _other(colour: str) -> str:
    """A colour that is easily told from this one."""
    return 'yellow' if sum(COLOURS[colour]) < 380 else 'black'


def errors(restorer: Restorer, views: Sequence[View], wrong: Sequence[View]) -> np.ndarray:
    """Squared error (N, 2) of the hidden pixels of the clothes, by right and by wrong caption.

    In units of 1/255; images without hidden pixels of clothes are left out.
    """
    found = []
    for part, others in _batches(views, wrong):
        right = restorer.paint(part, [view.captions[0] for view in part])
        misled = restorer.paint(part, [view.captions[0] for view in others])
        hidden = _hidden(right['restored'], right['original'], misled['restored'])
        for row, view in enumerate(part):
            where = restorer.clothes(view, hidden.shape[1:], top_alone=False) & hidden[row]
            if where.any():
                original = right['original'][row][where]
                found.append(
                    [
                        float(np.mean((painted['restored'][row][where] - original) ** 2))
                        for painted in (right, misled)
                    ]
                )
    return np.array(found)


def hue_follows(restorer: Restorer, views: Sequence[View]) -> dict[str, list[bool]]:
    """Whether the hidden pixels of the upper garment have the hue of the caption's word.

    Returns:
        Under 'own word' by the caption as it is, under 'exchanged' with the word exchanged for
        that of the colour furthest away, one value for each image with such a garment.
    """
    named = [view for view in views if view.person.top_colour in HUES and _says_colour(view)]
    found: dict[str, list[bool]] = {'own word': [], 'exchanged': []}
    for part, _ in _batches(named, named):
        own = [_caption_with_colour(view) for view in part]
        words = [view.person.top_colour for view in part]
        others = [_furthest(word) for word in words]
        exchanged = [
            caption.replace(word, other)
            for caption, word, other in zip(own, words, others, strict=True)
        ]
        painted = restorer.paint(part, own), restorer.paint(part, exchanged)
        hidden = _hidden(painted[0]['restored'], painted[0]['original'], painted[1]['restored'])
        for row, view in enumerate(part):
            where = restorer.clothes(view, hidden.shape[1:], top_alone=True) & hidden[row]
            if not where.any():
                continue
            for name, columns, word in (
                ('own word', painted[0], words[row]),
                ('exchanged', painted[1], others[row]),
            ):
                mean = columns['restored'][row][where].mean(axis=0)
                found[name].append(_nearest_hue(mean) == word)
    return found


def _says_colour(view: View) -> bool:
    """Whether a plain garment's colour word stands in a caption and means that garment alone."""
    person = view.person
    parts = ('second', 'inner', 'bottom', 'shoes', 'hat', 'bag', 'carried', 'hair')
    others = [getattr(person, f'{part}_colour') for part in parts]
    alone = not any(person.top_colour in other.split() for other in others)
    return alone and person.pattern == 'plain' and _caption_with_colour(view) is not None


def _caption_with_colour(view: View) -> str | None:
    return next((text for text in view.captions if view.person.top_colour in text.split()), None)


def _hue(colour: Sequence[float]) -> float:
    return colorsys.rgb_to_hsv(*(float(value) / 255 for value in colour))[0]


def _distance(first: float, second: float) -> float:
    return min(abs(first - second), 1 - abs(first - second))


def _nearest_hue(colour: Sequence[float]) -> str:
    return min(HUES, key=lambda name: _distance(_hue(COLOURS[name]), _hue(colour)))


def _furthest(word: str) -> str:
    return max(HUES, key=lambda name: _distance(_hue(COLOURS[name]), _hue(COLOURS[word])))


def _hidden(restored: np.ndarray, original: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where (B, rows, columns) pixels were painted: visible ones keep their values."""
    return ((restored != original) | (other != original)).any(axis=3)


def _batches(*lists: Sequence) -> Iterator[list[Sequence]]:
    for start in range(0, len(lists[0]), BATCH):
        yield [part[start : start + BATCH] for part in lists]


def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    encoder = Encoder.from_config(config, args.checkpoint)
    settings = {**config.test_dataloader.dataset, 'split': args.split, 'pipeline': []}
    dataset = DATASETS.build(settings)
    if not hasattr(dataset, 'recipe') or 'num_ids' not in dataset.recipe:
        raise ValueError(f'only drawn people can be drawn again, {args.config} reads others')
    views = views_of(dataset)
    restorer = Restorer(encoder, dataset.recipe)
    person_ids = [view.person_id for view in views]
    shown = np.linspace(0, len(views) - 1, min(args.num, len(views))).astype(int)
    wrong = [views[other_person(person_ids, index)] for index in shown]
    with torch.inference_mode():
        pairs = errors(restorer, [views[index] for index in shown], wrong)
        hues = hue_follows(restorer, views)
    report = dict(
        images=len(pairs),
        error_right=float(pairs[:, 0].mean()),
        error_wrong=float(pairs[:, 1].mean()),
        lower_by=float(100 * (1 - pairs[:, 0].mean() / pairs[:, 1].mean())),
        right_better=float(100 * (pairs[:, 0] < pairs[:, 1]).mean()),
        coloured_images=len(hues['exchanged']),
        hue_of_own_word=float(100 * np.mean(hues['own word'])),
        hue_of_exchanged_word=float(100 * np.mean(hues['exchanged'])),
    )
    for name, value in report.items():
        print(f'{name:24}{value:10.2f}')
    if args.out:
        args.out.write_text(json.dumps(report, indent=2))


if __name__ == '__main__':
    run_main(main)
