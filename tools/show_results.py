"""Draws what a checkpoint finds and restores on the test split, as one picture and one page.

Boards:
  retrieval    captions and the images they find
  illustration what a head does to images, by their own and by a wrong caption
  failures     the captions whose right image ranks lowest, with that image
  words        which regions of an image the words of its caption speak to
  map          embeddings of a few people on a plane
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sen_toolbox.command_line import add_cfg_options, read_first, run_main, tool_parser

NOTES = {
    'retrieval': 'The best-ranked images of each caption; a green frame is the right person.',
    'illustration': (
        'Hidden patches are painted from the grey visible ones and a caption: its own, that of '
        'another person, and its own with the first colour word exchanged for another. The more '
        'the last three columns differ, the more the caption guides.'
    ),
    'failures': 'The captions whose right image ranks lowest, that image, and what came first.',
    'words': (
        'Effect: how much of what a word adds to the score is lost when a region is hidden; the '
        'number is what the word adds. Attention: weights of the cross-attention.'
    ),
    'map': 'Embeddings of a few people, each kind centred, on their two principal components.',
}


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument(
        '--boards',
        nargs='+',
        choices=list(NOTES),
        help='what to draw; default: retrieval, and illustration if a head of the model has one',
    )
    parser.add_argument(
        '--out', type=Path, help='picture to write; default, without --html, results.png'
    )
    parser.add_argument('--html', type=Path, help='page with the boards in it to write')
    parser.add_argument('--queries', type=int, default=8, help='captions to search for')
    parser.add_argument('--top-k', type=int, default=10, help='images per caption')
    parser.add_argument('--restored', type=int, default=4, help='images of the other boards')
    parser.add_argument('--seed', type=int, default=0, help='which captions, images and masks')
    add_cfg_options(parser)
    args = parser.parse_args(arguments)
    if args.out is None and args.html is None:
        args.out = Path('results.png')
    return args


read_first(__name__, parse_args)

import numpy as np
import torch
from PIL import Image

from sen_toolbox.config import load_config
from sen_toolbox.evaluation.analysis import first_right_ranks
from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.registry import DATASETS
from sen_toolbox.text.colours import exchange_colour
from sen_toolbox.text.words import caption_words
from sen_toolbox.visualization import (
    board_page,
    draw_embedding_map,
    draw_illustration_board,
    draw_retrieval_board,
    draw_word_board,
    stack_boards,
)
from sen_toolbox.visualization.illustration_board import EXCHANGED_TITLE, WRONG_TITLE
from sen_toolbox.visualization.results import (
    illustrated_rows,
    illustrating_head,
    other_person,
    ranked_queries,
    spread,
)
from sen_toolbox.visualization.word_maps import attention_maps, effect_maps

MAX_WORDS = 7
# Weaker words are left out, as a share of the strongest.
WEAKEST = 0.1
MAPPED_PEOPLE = 12


class Results:
    """A test split, its embeddings, and the boards of them.

    Args:
        encoder: The trained model.
        records: Images of the test split with their captions.
        args: The command line.
    """

    def __init__(self, encoder: Encoder, records: list[dict], args: argparse.Namespace) -> None:
        self.encoder, self.records, self.args = encoder, records, args
        torch.manual_seed(args.seed)
        self.drawn = torch.randperm(len(records)).tolist()
        self.person_ids = [record['person_id'] for record in records]
        self.images = torch.from_numpy(
            encoder.embed_files([record['img_path'] for record in records])
        )

    def retrieval(self) -> Image.Image:
        """What the first captions find."""
        queries = [self.records[index] for index in self.drawn[: self.args.queries]]
        pairs = [(record['captions'][0], record['person_id']) for record in queries]
        return self._ranked(pairs, title='Text-to-image retrieval')

    def failures(self) -> Image.Image:
        """The captions that fail worst."""
        pairs = [
            (text, record['person_id']) for record in self.records for text in record['captions']
        ]
        captions, person_ids = zip(*pairs, strict=True)
        texts = torch.from_numpy(self.encoder.embed_text(captions))
        ranks = first_right_ranks(
            texts, self.images, torch.tensor(person_ids), torch.tensor(self.person_ids)
        )
        worst = ranks.argsort(descending=True, stable=True)[: self.args.queries].tolist()
        title = f'The worst of {len(pairs)} captions, {len(self.records)} images'
        return self._ranked([pairs[index] for index in worst], title=title, show_sought=True)

    def illustration(self) -> Image.Image:
        """What a head does to images."""
        shown = self.drawn[-self.args.restored :]
        others = [other_person(self.person_ids, index) for index in shown]
        captions, wrong = (
            [self.records[index]['captions'][0] for index in indices] for indices in (shown, others)
        )
        exchanged = [exchange_colour(caption) for caption in captions]
        batch = dict(images=self._images(shown), tokens=self.encoder.tokens(captions))
        rows = illustrated_rows(
            self.encoder.model,
            batch,
            captions,
            others={
                title: (self.encoder.tokens(texts), texts)
                for title, texts in {WRONG_TITLE: wrong, EXCHANGED_TITLE: exchanged}.items()
            },
            seed=self.args.seed,
        )
        return draw_illustration_board(rows)

    def _images(self, indices: Sequence[int]) -> torch.Tensor:
        paths = [self.records[index]['img_path'] for index in indices]
        prepared = [self.encoder.processor.prepare_file(path) for path in paths]
        return self.encoder.normalised(np.stack(prepared))

    def words(self) -> Image.Image:
        """Where words point to."""
        rows = []
        for index in self.drawn[: self.args.restored]:
            rows += self._word_rows(self._images([index])[0], self.records[index]['captions'][0])
        return draw_word_board(rows, title='Regions that carry a word')

    def _word_rows(self, image: torch.Tensor, caption: str) -> list[dict]:
        model, processor = self.encoder.model, self.encoder.processor
        found = caption_words(processor.tokenizer, processor.clean(caption))
        tokens = found.tokens.map(lambda array: torch.from_numpy(array).to(image.device))
        maps, effects = effect_maps(model, image, tokens)
        strength = maps.flatten(1).amax(dim=1)
        best = strength.topk(min(MAX_WORDS, len(found.words)))
        shown = sorted(best.indices[best.values >= WEAKEST * best.values[0]].tolist())
        pixels = model.data_preprocessor.to_pixels(image[None])[0].round().clamp(0, 255)
        row = dict(image=pixels.permute(1, 2, 0).cpu().numpy().astype(np.uint8), caption=caption)
        cells = [(found.words[i], maps[i].cpu().numpy(), float(effects[i])) for i in shown]
        rows = [{**row, 'label': 'effect', 'words': cells}]
        places = [found.places[i] for i in shown]
        weights = attention_maps(model, image, tokens[:1], places)
        if weights is not None:
            cells = [
                (found.words[i], weight)
                for i, weight in zip(shown, weights.cpu().numpy(), strict=True)
            ]
            rows.append({**row, 'caption': '', 'label': 'attention', 'words': cells})
        return rows

    def map(self) -> Image.Image:
        """Where people lie."""
        people = sorted(set(self.person_ids))
        people = [people[index] for index in spread(len(people), MAPPED_PEOPLE)]
        shown = [index for index, person_id in enumerate(self.person_ids) if person_id in people]
        person_ids = [self.person_ids[index] for index in shown]
        captions = [text for index in shown for text in self.records[index]['captions']]
        text_person_ids = [self.person_ids[i] for i in shown for _ in self.records[i]['captions']]
        # The first image of a person stands for it.
        thumbnails = {self.person_ids[i]: self.records[i]['img_path'] for i in reversed(shown)}
        thumbnails = {person_id: thumbnails[person_id] for person_id in people}
        texts = torch.from_numpy(self.encoder.embed_text(captions))
        return draw_embedding_map(
            self.images[shown], person_ids, texts, text_person_ids, thumbnails
        )

    def _ranked(
        self, pairs: list[tuple[str, int]], *, title: str, show_sought: bool = False
    ) -> Image.Image:
        captions, person_ids = zip(*pairs, strict=True)
        scores = torch.from_numpy(self.encoder.embed_text(captions)) @ self.images.T
        topk = self.args.top_k
        rows = ranked_queries(
            captions, person_ids, scores, self.records, topk=topk, show_sought=show_sought
        )
        return draw_retrieval_board(rows, topk=topk, title=title)


def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    encoder = Encoder.from_config(config, args.checkpoint)
    dataset = DATASETS.build({**config.test_dataloader.dataset, 'pipeline': []})
    records = [dataset.get_data_info(index) for index in range(len(dataset))]
    names = args.boards or ['retrieval']
    if not args.boards and illustrating_head(encoder.model) is not None:
        names.append('illustration')
    results = Results(encoder, records, args)
    boards = {name: getattr(results, name)() for name in names}
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        stack_boards(list(boards.values())).save(args.out)
        print(f'picture: {args.out.resolve()}')
    if args.html:
        args.html.parent.mkdir(parents=True, exist_ok=True)
        sections = [(name.capitalize(), NOTES[name], board) for name, board in boards.items()]
        title = f'{Path(args.config).stem}, {Path(args.checkpoint).name}'
        args.html.write_text(board_page(title, sections), encoding='utf-8')
        print(f'page: {args.html.resolve()}')


if __name__ == '__main__':
    run_main(main)
