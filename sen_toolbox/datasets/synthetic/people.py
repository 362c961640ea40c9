"""Who the drawn pedestrians are: every attribute of an identity, and how often each occurs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

#: Cloth colours in RGB; muted, as daylight surveillance video shows them.
COLOURS = {
    'black': (30, 30, 33),
    'white': (226, 226, 223),
    'grey': (128, 130, 132),
    'navy': (34, 42, 78),
    'blue': (46, 86, 156),
    'light blue': (140, 176, 210),
    'red': (178, 36, 40),
    'maroon': (96, 28, 40),
    'pink': (220, 148, 170),
    'green': (52, 120, 66),
    'dark green': (50, 70, 46),
    'yellow': (222, 190, 62),
    'orange': (214, 112, 40),
    'purple': (106, 64, 136),
    'brown': (100, 68, 46),
    'beige': (196, 178, 144),
}
HAIR_COLOURS = {
    'black': (26, 23, 24),
    'brown': (84, 56, 38),
    'blond': (194, 162, 104),
    'grey': (150, 150, 150),
    'red': (140, 68, 36),
}
SKINS = {
    'pale': (232, 196, 176),
    'light': (220, 178, 150),
    'tan': (190, 142, 108),
    'brown': (134, 92, 66),
    'dark': (86, 60, 48),
}
DARK = frozenset({'black', 'navy', 'maroon', 'dark green', 'brown'})
LIGHT = frozenset({'white', 'light blue', 'pink', 'yellow', 'beige'})

_TOP_COLOURS = {
    'black': 15,
    'white': 12,
    'grey': 11,
    'navy': 7,
    'blue': 10,
    'light blue': 6,
    'red': 8,
    'maroon': 3,
    'pink': 5,
    'green': 5,
    'dark green': 3,
    'yellow': 4,
    'orange': 3,
    'purple': 4,
    'brown': 4,
    'beige': 4,
}
_BOTTOM_COLOURS = {
    'jeans': {'blue': 38, 'navy': 22, 'light blue': 18, 'black': 14, 'grey': 8},
    'trousers': {
        'black': 32,
        'grey': 18,
        'beige': 14,
        'navy': 11,
        'brown': 9,
        'white': 5,
        'dark green': 5,
        'red': 3,
        'maroon': 3,
    },
    'sweatpants': {'grey': 32, 'black': 32, 'navy': 16, 'red': 6, 'blue': 8, 'dark green': 6},
    'leggings': {'black': 44, 'grey': 18, 'navy': 12, 'purple': 8, 'pink': 6, 'white': 6, 'red': 6},
    'shorts': {
        'black': 18,
        'beige': 16,
        'blue': 15,
        'grey': 13,
        'white': 11,
        'navy': 9,
        'red': 6,
        'green': 4,
        'brown': 4,
        'yellow': 2,
        'pink': 2,
    },
    'skirt': {
        'black': 22,
        'blue': 12,
        'white': 12,
        'grey': 11,
        'red': 10,
        'pink': 9,
        'beige': 7,
        'purple': 5,
        'green': 4,
        'yellow': 4,
        'brown': 4,
    },
    'bare legs': {'beige': 1},
    'tights': {'black': 6, 'grey': 2, 'white': 1},
}
_BOTTOM_COLOURS['long skirt'] = _BOTTOM_COLOURS['skirt']
_TOPS = {
    'man': {
        't-shirt': 22,
        'shirt': 17,
        'sweater': 11,
        'hoodie': 11,
        'jacket': 18,
        'coat': 7,
        'vest': 4,
        'tank top': 3,
        'suit': 6,
    },
    'woman': {
        't-shirt': 18,
        'shirt': 15,
        'sweater': 12,
        'hoodie': 8,
        'jacket': 15,
        'coat': 11,
        'vest': 3,
        'tank top': 6,
        'suit': 2,
        'dress': 10,
    },
}
_BOTTOMS = {
    'man': {'jeans': 38, 'trousers': 32, 'shorts': 19, 'sweatpants': 11},
    'woman': {
        'jeans': 32,
        'trousers': 19,
        'shorts': 12,
        'skirt': 14,
        'long skirt': 6,
        'leggings': 13,
        'sweatpants': 4,
    },
}
_SHOES = {
    'man': {'sneakers': 52, 'leather shoes': 30, 'boots': 10, 'sandals': 8},
    'woman': {'sneakers': 42, 'flats': 18, 'boots': 16, 'sandals': 12, 'high heels': 12},
}
_SHOE_COLOURS = {
    'black': 36,
    'white': 26,
    'brown': 12,
    'grey': 9,
    'red': 5,
    'blue': 5,
    'beige': 4,
    'pink': 3,
}
_HAIR_STYLES = {
    'man': {'short': 84, 'bald': 9, 'medium': 5, 'ponytail': 2},
    'woman': {'long': 36, 'medium': 22, 'ponytail': 22, 'bun': 10, 'short': 10},
}
_HAIR_SHARES = {'black': 42, 'brown': 28, 'blond': 15, 'grey': 11, 'red': 4}
_PATTERNS = {
    't-shirt': {'plain': 46, 'horizontal stripes': 17, 'logo': 27, 'two-tone': 10},
    'shirt': {'plain': 48, 'vertical stripes': 14, 'checks': 32, 'horizontal stripes': 6},
    'sweater': {'plain': 62, 'horizontal stripes': 30, 'logo': 8},
    'hoodie': {'plain': 66, 'logo': 22, 'two-tone': 12},
    'jacket': {'plain': 80, 'two-tone': 20},
    'coat': {'plain': 90, 'checks': 10},
    'vest': {'plain': 1},
    'tank top': {'plain': 72, 'horizontal stripes': 14, 'logo': 14},
    'suit': {'plain': 1},
    'dress': {'plain': 62, 'horizontal stripes': 14, 'vertical stripes': 8, 'checks': 16},
}
_BAGS = {
    'man': {'none': 48, 'backpack': 26, 'shoulder bag': 17, 'handbag': 3, 'suitcase': 6},
    'woman': {'none': 38, 'backpack': 17, 'shoulder bag': 22, 'handbag': 18, 'suitcase': 5},
}
_BAG_COLOURS = {
    'black': 36,
    'brown': 14,
    'grey': 9,
    'blue': 9,
    'red': 9,
    'white': 5,
    'green': 5,
    'beige': 5,
    'pink': 4,
    'purple': 2,
    'yellow': 2,
}
_HATS = {'none': 80, 'cap': 11, 'beanie': 5, 'sun hat': 4}
_CARRIED = {'none': 76, 'phone': 8, 'shopping bag': 6, 'papers': 4, 'umbrella': 3, 'cup': 3}
_OPENING = ('jacket', 'coat', 'suit', 'vest')


@dataclass(frozen=True)
class Person:
    """One drawn identity; colours are keys of `COLOURS`, ``'none'`` marks an absent thing."""

    sex: str
    skin: str
    build: str
    top: str
    top_colour: str
    pattern: str
    second_colour: str
    sleeves: str
    inner_colour: str
    bottom: str
    bottom_colour: str
    shoes: str
    shoes_colour: str
    hair: str
    hair_colour: str
    hat: str
    hat_colour: str
    bag: str
    bag_colour: str
    glasses: str
    carried: str
    carried_colour: str
    tint: int

    @property
    def described(self) -> tuple[str, ...]:
        """The main attributes, in words, by which two people can be told apart."""
        return (
            self.sex,
            self.top,
            self.top_colour,
            self.pattern,
            self.second_colour,
            self.inner_colour,
            self.bottom,
            self.bottom_colour,
            f'{self.shoes_colour} {self.shoes}',
            f'{self.hair_colour} {self.hair}',
            f'{self.hat_colour} {self.hat}',
            f'{self.bag_colour} {self.bag}',
        )


def sample_people(num_people: int, *, seed: int = 0, min_differences: int = 3) -> list[Person]:
    """Draw people, any two of whom differ in several of the attributes captions speak of.

    The first `n` people of a larger draw with the same seed are the draw of `n` people.

    Args:
        num_people: How many, at least 0.
        seed: Seed of the draw.
        min_differences: In how many entries of `Person.described` any two must differ, 1 to 5.
            Among the first eight entries (the clothes themselves and the sex) they differ in at
            least one.
    """
    rng = np.random.default_rng([seed, 0])
    numbers: dict[str, int] = {}
    taken = np.zeros((max(num_people, 1), 12), dtype=np.int32)
    people: list[Person] = []
    while len(people) < num_people:
        person = sample_person(rng)
        code = np.array([numbers.setdefault(word, len(numbers)) for word in person.described])
        differs = taken[: len(people)] != code
        if np.all((differs.sum(1) >= min_differences) & differs[:, :8].any(1)):
            taken[len(people)] = code
            people.append(person)
    return people


def _pick(
    rng: np.random.Generator, shares: Mapping[str, float], avoid: tuple[str, ...] = ()
) -> str:
    names = [name for name in shares if name not in avoid]
    weights = np.array([shares[name] for name in names], dtype=float)
    return names[int(np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random()))]


def sample_person(rng: np.random.Generator) -> Person:
    """Anybody."""
    sex = 'man' if rng.random() < 0.55 else 'woman'
    top = _pick(rng, _TOPS[sex])
    colours = (
        {'black': 4, 'navy': 3, 'grey': 3, 'beige': 1, 'brown': 1}
        if top == 'suit'
        else _TOP_COLOURS
    )
    top_colour = _pick(rng, colours)
    pattern = _pick(rng, _PATTERNS[top])
    second = 'none' if pattern == 'plain' else _second_colour(rng, top_colour, pattern)
    inner = 'none'
    if top in _OPENING and (top in ('suit', 'vest') or rng.random() < 0.55):
        inner = (
            'white'
            if top == 'suit' and rng.random() < 0.7
            else _pick(rng, _TOP_COLOURS, _alike(top_colour))
        )
    if top == 'dress':
        bottom = 'bare legs' if rng.random() < 0.7 else 'tights'
    else:
        bottom = 'trousers' if top == 'suit' else _pick(rng, _BOTTOMS[sex])
    bottom_colour = top_colour if top == 'suit' else _pick(rng, _BOTTOM_COLOURS[bottom])
    hair = _pick(rng, _HAIR_STYLES[sex])
    hair_colour = 'none' if hair == 'bald' else _pick(rng, _HAIR_SHARES)
    hat = _pick(rng, _HATS)
    bag = _pick(rng, _BAGS[sex])
    carried = _pick(rng, _CARRIED)
    return Person(
        sex=sex,
        skin=_pick(rng, {'pale': 30, 'light': 34, 'tan': 18, 'brown': 10, 'dark': 8}),
        build=_pick(rng, {'slim': 28, 'average': 50, 'heavy': 22}),
        top=top,
        top_colour=top_colour,
        pattern=pattern,
        second_colour=second,
        sleeves=_sleeves(rng, top),
        inner_colour=inner,
        bottom=bottom,
        bottom_colour=bottom_colour,
        shoes=_pick(rng, _SHOES[sex]),
        shoes_colour=_pick(rng, _SHOE_COLOURS),
        hair=hair,
        hair_colour=hair_colour,
        hat=hat,
        hat_colour='none'
        if hat == 'none'
        else 'beige'
        if hat == 'sun hat'
        else _pick(rng, _BAG_COLOURS),
        bag=bag,
        bag_colour='none' if bag == 'none' else _pick(rng, _BAG_COLOURS),
        glasses=_pick(rng, {'none': 80, 'glasses': 13, 'sunglasses': 7}),
        carried=carried,
        carried_colour=_pick(rng, {'white': 4, 'black': 2, 'red': 1, 'blue': 1, 'yellow': 1})
        if carried in ('shopping bag', 'umbrella')
        else 'none',
        tint=int(rng.integers(2**31)),
    )


def _sleeves(rng: np.random.Generator, top: str) -> str:
    if top in ('tank top',):
        return 'none'
    if top == 't-shirt':
        return 'short'
    if top == 'shirt':
        return 'long' if rng.random() < 0.6 else 'short'
    if top == 'dress':
        return _pick(rng, {'none': 40, 'short': 40, 'long': 20})
    return 'long'


def _alike(colour: str) -> tuple[str, ...]:
    """The colours that would hardly show against `colour`, itself included."""
    value = np.array(COLOURS[colour])
    return tuple(
        name for name, other in COLOURS.items() if np.abs(value - np.array(other)).sum() < 150
    )


def _second_colour(rng: np.random.Generator, colour: str, pattern: str) -> str:
    if pattern == 'logo' and 'white' not in _alike(colour) and rng.random() < 0.5:
        return 'white'
    return _pick(rng, _TOP_COLOURS, _alike(colour))
