"""Does the best score of a query tell that nobody in the gallery fits?

Half of some drawn people are the gallery of the shipped model. Descriptions of them, of the other
half, of things, and words without meaning are compared by the best score of each, and by how far
it stands above all scores of the query, in standard deviations. A hint that nobody fits needs a
limit between the first and the others; the share of right orders (AUC) says how well one can be.
How many are told that nobody matches well is by the model's own limits (``usual_scores``).
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import arguments
from run_all import table

from sen_toolbox.datasets.synthetic import write_synthetic_pedes
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.search.indexing import Encoder

THINGS = (
    'a red car', 'a dog on the street', 'a green tree', 'a bicycle', 'an empty room',
    'a house with a door', 'a bus', 'a plate of food', 'a computer', 'mountains and snow',
)  # fmt: skip
NONSENSE = (
    'blorp frag zint', 'qwerty asdf', 'xyzzy plugh', 'lorem ipsum dolor', 'foo bar baz',
    'aaaa bbbb cccc',
)  # fmt: skip
SHORT, MIDDLE = 8, 16  # words


def order(present: np.ndarray, absent: np.ndarray) -> float:
    """Share of pairs in which the present one is above; half of those that are equal."""
    above = present[:, None] - absent[None]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def spread(values: np.ndarray) -> str:
    """Median, and between which two values nine of ten are."""
    low, middle, high = np.percentile(values, (5, 50, 95))
    return f'{middle:.2f} ({low:.2f} to {high:.2f})'


def first_words(texts: list[str], number: int) -> list[str]:
    """The beginning of each text."""
    return [' '.join(text.split()[:number]) for text in texts]


def limits_of(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """The best score that each text usually has, where somebody fits."""
    limits = [encoder.usual_score(text) for text in texts]
    return np.array([-np.inf if limit is None else limit for limit in limits])


def main() -> None:
    args = arguments(__doc__, people=500)
    encoder = load_encoder()
    with tempfile.TemporaryDirectory() as root:
        people = dict(train=args.people - 2, val=1, test=1)
        write_synthetic_pedes(root, num_ids=people, images_per_id=4, captions_per_image=1)
        records = json.loads(Path(root, 'reid_raw.json').read_text())
        known = [record for record in records if record['id'] % 2]
        gallery = encoder.embed_files([Path(root, 'imgs', r['file_path']) for r in known])
    whole = [record['captions'][0] for record in known]
    others = [record['captions'][0] for record in records if not record['id'] % 2]
    texts = {
        'people who are there': whole,
        f'the same, first {SHORT} words': first_words(whole, SHORT),
        'people who are not there': others,
        f'the same, first {MIDDLE} words': first_words(others, MIDDLE),
        'things': THINGS,
        'words without meaning': NONSENSE,
    }
    scores = {what: encoder.embed_text(list(asked)) @ gallery.T for what, asked in texts.items()}
    best = {what: found.max(axis=1) for what, found in scores.items()}
    above = {what: (best[what] - s.mean(axis=1)) / s.std(axis=1) for what, s in scores.items()}
    first, short, *absent = texts
    compared = {
        'AUC by score': (best, first),
        'AUC by score, short': (best, short),
        'AUC above the mean': (above, first),
    }
    rows = [
        {
            'what': what,
            'queries': str(len(asked)),
            'best score': spread(best[what]),
            'above the mean': spread(above[what]),
            'told': f'{100 * np.mean(best[what] < limits_of(encoder, asked)):.1f} %',
            **{
                name: f'{order(of[there], of[what]):.2f}' if what in absent else ''
                for name, (of, there) in compared.items()
            },
        }
        for what, asked in texts.items()
    ]
    result = dict(title='best score where somebody fits, and where nobody does', rows=rows)
    print('\n'.join(table(result, 'nobody_there')))
    if args.json:
        args.json.write_text(json.dumps(result))


if __name__ == '__main__':
    main()
