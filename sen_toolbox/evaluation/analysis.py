"""Which words and attributes of captions queries fail on."""

import re
from collections import defaultdict
from collections.abc import Sequence
from statistics import NormalDist

import torch
from torch import Tensor

from sen_toolbox.evaluation.ranking import rounding_error
from sen_toolbox.text.colours import COLOUR_WORDS

# Scores that are held at once, as in ranking.
_SCORES_PER_CHUNK = 2**21
_WORD = re.compile(r'[^\W_]+(?:-[^\W_]+)*')
# Longest caption of each group, in words; the last group has no end.
LENGTHS = (10, 15, 20, 25, 30, 40)

# English words of descriptions of pedestrians, by what they tell.
_WORDS = {
    'colour': ' '.join(COLOUR_WORDS),
    'shade': 'dark light pale bright deep faded',
    'pattern': (
        'striped stripes stripe plaid checkered checked dotted dots polka floral patterned print '
        'printed camouflage logo graphic letters'
    ),
    'upper garment': (
        'shirt t-shirt tshirt tee blouse top tank sweater pullover jumper cardigan hoodie '
        'sweatshirt jacket coat overcoat windbreaker parka blazer suit vest polo dress gown robe '
        'uniform undershirt'
    ),
    'lower garment': (
        'pants trousers slacks jeans denim shorts skirt leggings tights stockings sweatpants '
        'capris khakis'
    ),
    'shoes': (
        'shoes shoe sneakers sneaker trainers boots boot sandals sandal heels flats slippers '
        'loafers flip-flops socks'
    ),
    'bag': (
        'backpack rucksack bag bags handbag purse suitcase luggage briefcase satchel tote pouch '
        'bookbag messenger'
    ),
    'hat': 'hat cap beanie helmet hood headscarf bonnet',
    'hair': (
        'hair haired blond blonde brunette ponytail braid braids bun bald bangs curly wavy '
        'shoulder-length beard'
    ),
    'accessory': (
        'glasses sunglasses scarf tie belt watch bracelet necklace gloves headphones earphones '
        'umbrella phone cellphone mobile cup bottle papers paper book lanyard mask drink'
    ),
    'build or age': 'slim thin skinny heavy heavyset stocky tall short young old older elderly',
    'sex': 'man woman male female guy lady gentleman girl boy he she his her',
}
ATTRIBUTES = {group: frozenset(words.split()) for group, words in _WORDS.items()}


def words_of_caption(caption: str) -> list[str]:
    """The words, in lower case, without punctuation; hyphens stay.

    >>> words_of_caption("A man's T-shirt, DARK blue.")
    ['a', 'man', 's', 't-shirt', 'dark', 'blue']
    """
    return _WORD.findall(caption.lower())


def first_right_ranks(
    queries: Tensor, gallery: Tensor, query_ids: Tensor, gallery_ids: Tensor
) -> Tensor:
    """Rank (Q,), from 1, of the best right item of each query; ties count against the method.

    As in :func:`~sen_toolbox.evaluation.retrieval_metrics`, scores closer than rounding are ties.

    Args:
        queries: (Q, D), L2-normalised for cosine similarity.
        gallery: (G, D).
        query_ids: (Q,) identity of each query.
        gallery_ids: (G,) identity of each gallery item.

    Raises:
        ValueError: If a query has no match in the gallery.
    """
    tolerance = rounding_error(queries, gallery)
    ranks = []
    size = max(1, _SCORES_PER_CHUNK // len(gallery))
    for part, person_ids in zip(queries.split(size), query_ids.split(size), strict=True):
        scores = part @ gallery.T
        right = person_ids[:, None] == gallery_ids
        if not right.any(dim=1).all():
            person_id = int(person_ids[~right.any(dim=1)][0])
            raise ValueError(f'identity {person_id} has a query, but no match in the gallery')
        best = scores.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        ranks.append(1 + ((scores >= best - tolerance) & ~right).sum(dim=1))
    return torch.cat(ranks)


def wilson_interval(hits: int, count: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a share, in 0..1, after Wilson (JASA 1927).

    Args:
        hits: Successes, 0 to ``count``.
        count: Trials, at least 1.
        confidence: In 0..1 (exclusive).
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = hits / count
    middle = share + z * z / (2 * count)
    reach = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    scale = 1 + z * z / count
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def failure_report(
    captions: Sequence[str], ranks: Sequence[int], *, min_count: int = 20
) -> dict[str, list[dict] | dict]:
    """R1 of the captions that have something in common, in percent, with a 95 % interval.

    The interval takes captions as independent; those of one image or person are not quite, so it
    is a little too narrow. Among hundreds of words some lie outside by chance.

    Args:
        captions: The queries.
        ranks: Rank of the first right image of each, from 1.
        min_count: Captions that must have something in common for it to be listed, at least 1.

    Returns:
        Entries ``dict(name, count, R1, low, high)``: 'overall'; 'groups', by the attributes that
        captions mention; 'attributes', by group a list of its words; 'words', all of them, those
        that fail most surely (lowest upper end of the interval) first; 'lengths', by number of
        words; 'colours', by number of colour words.

    Raises:
        ValueError: If there are no captions, or ``min_count`` is below 1.
    """
    if not captions or min_count < 1:
        raise ValueError(
            f'there must be captions and min_count be at least 1, got {len(captions)}, {min_count}'
        )
    found: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for caption, rank in zip(captions, ranks, strict=True):
        words = words_of_caption(caption)
        hit = int(rank) == 1
        keys = [('overall', 'all'), ('lengths', _length_group(len(words)))]
        keys += [('words', word) for word in set(words)]
        keys += [('groups', g) for g, members in ATTRIBUTES.items() if members & set(words)]
        keys.append(('colours', str(sum(word in ATTRIBUTES['colour'] for word in words))))
        for key in keys:
            found[key].append(hit)

    entries: dict[str, list[dict]] = defaultdict(list)
    for (kind, name), hits in found.items():
        if kind == 'overall' or len(hits) >= min_count:
            entries[kind].append(_entry(name, hits))
    by_word = sorted(entries['words'], key=lambda entry: (entry['high'], entry['name']))
    order = {_length_group(n): n for n in (*LENGTHS, LENGTHS[-1] + 1)}
    return dict(
        overall=entries['overall'][0],
        groups=sorted(entries['groups'], key=lambda entry: entry['R1']),
        attributes={
            group: sorted((e for e in by_word if e['name'] in members), key=lambda e: e['R1'])
            for group, members in ATTRIBUTES.items()
        },
        words=by_word,
        lengths=sorted(entries['lengths'], key=lambda entry: order[entry['name']]),
        colours=sorted(entries['colours'], key=lambda entry: int(entry['name'])),
    )


def _length_group(count: int) -> str:
    low = 0
    for high in LENGTHS:
        if count <= high:
            return f'{low + 1}-{high}' if low else f'up to {high}'
        low = high
    return f'over {LENGTHS[-1]}'


def _entry(name: str, hits: Sequence[bool]) -> dict:
    low, high = wilson_interval(sum(hits), len(hits))
    return dict(
        name=name,
        count=len(hits),
        R1=100 * sum(hits) / len(hits),
        low=100 * low,
        high=100 * high,
    )
