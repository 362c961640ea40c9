"""Does the first result of a few words show somebody whom they fit?

Drawn people are the gallery of a model. Queries name one or two things, as people type them into a
search; who is drawn tells whom they fit. For those that fit somebody: is the first result one of
them, what share of the first results are (as many as there are fitting ones, at most ten), and what
would come first by chance. And does the best score tell them from those that fit nobody: the share
of right orders (AUC).
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from common import arguments
from nobody_there import order, spread
from run_all import table

from sen_toolbox.datasets.synthetic import Person, sample_people, write_synthetic_pedes
from sen_toolbox.datasets.synthetic.people import COLOURS
from sen_toolbox.datasets.synthetic.words import BAG_WORDS, HAT_WORDS
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.search.indexing import Encoder

# Nothing was trained or chosen by these people.
SEED = 4321
TOPS = ('t-shirt', 'shirt', 'sweater', 'hoodie', 'jacket', 'coat', 'dress')
BOTTOMS = ('jeans', 'trousers', 'shorts', 'skirt')
SEXES = ('man', 'woman')
Query = tuple[str, Mapping[str, str]]


def queries(kind: str, number: int, rng: np.random.Generator) -> list[Query]:
    """Texts of one kind, each with the facts that it tells."""
    return [_query(kind, rng) for _ in range(number)]


def _query(kind: str, rng: np.random.Generator) -> Query:
    sex, (first, second) = str(rng.choice(SEXES)), rng.choice(list(COLOURS), 2).tolist()
    if kind == 'top':
        top = str(rng.choice(TOPS))
        return f'a {sex} in a {first} {top}', dict(sex=sex, top=top, top_colour=first)
    if kind == 'top and bottom':
        top, bottom = str(rng.choice(TOPS)), str(rng.choice(BOTTOMS))
        article = 'a ' if bottom == 'skirt' else ''
        return f'a person in a {first} {top} and {article}{second} {bottom}', dict(
            top=top, top_colour=first, bottom=bottom, bottom_colour=second
        )
    if kind == 'hat':
        hat = str(rng.choice(list(HAT_WORDS)))
        return f'a {sex} with a {first} {hat}', dict(sex=sex, hat=hat, hat_colour=first)
    bag = str(rng.choice(list(BAG_WORDS)))
    return f'a {sex} with a {first} {bag}', dict(sex=sex, bag=bag, bag_colour=first)


def fits(person: Person, facts: Mapping[str, str]) -> bool:
    """Whether all the facts are those of a person."""
    return all(getattr(person, name) == value for name, value in facts.items())


def among_first(scores: np.ndarray, fitting: np.ndarray) -> float:
    """Share of the first results that fit, of as many as fit, at most ten."""
    shown = min(int(fitting.sum()), 10)
    return float(fitting[np.argsort(-scores, kind='stable')[:shown]].mean())


def measure(scores: np.ndarray, fitting: np.ndarray) -> dict[str, str]:
    """One row: of scores (queries, gallery) and whether each fits, (queries, gallery) bool."""
    someone = fitting.any(axis=1)
    best = scores.max(axis=1)
    first = fitting[np.arange(len(scores)), scores.argmax(axis=1)][someone]
    shares = [
        among_first(row, fit) for row, fit in zip(scores[someone], fitting[someone], strict=True)
    ]
    return {
        'fit somebody': f'{someone.sum()} of {len(scores)}',
        'first fits': f'{100 * first.mean():.0f} %',
        'by chance': f'{100 * fitting[someone].mean():.0f} %',
        'of as many as fit': f'{100 * np.mean(shares):.0f} %',
        'best score, somebody fits': spread(best[someone]),
        'nobody fits': spread(best[~someone]),
        'AUC': f'{order(best[someone], best[~someone]):.2f}',
    }


def gallery_of(encoder: Encoder, people: int) -> tuple[np.ndarray, Sequence[Person]]:
    """Embeddings of drawn people never seen in two views each, and who each one is."""
    drawn = sample_people(people, seed=SEED)
    with tempfile.TemporaryDirectory() as root:
        ids = dict(train=people - 2, val=1, test=1)
        write_synthetic_pedes(root, num_ids=ids, images_per_id=2, seed=SEED)
        records = json.loads(Path(root, 'reid_raw.json').read_text())
        vectors = encoder.embed_files([Path(root, 'imgs', r['file_path']) for r in records])
    return vectors, [drawn[record['id'] - 1] for record in records]


def main() -> None:
    args = arguments(__doc__, people=250, queries=500, model='')
    encoder = load_encoder(args.model or None)
    gallery, shown = gallery_of(encoder, args.people)
    rows = []
    for kind in ('top', 'top and bottom', 'hat', 'bag'):
        asked = queries(kind, args.queries, np.random.default_rng(0))
        fitting = np.array([[fits(person, facts) for person in shown] for _, facts in asked])
        scores = encoder.embed_text([text for text, _ in asked]) @ gallery.T
        rows.append({'what': f'{kind}, as "{asked[0][0]}"', **measure(scores, fitting)})
    result = dict(title='the first results of a few words', rows=rows)
    print('\n'.join(table(result, 'short_queries')))
    if args.json:
        args.json.write_text(json.dumps(result))


if __name__ == '__main__':
    main()
