"""Captions of the drawn world, as the web has them: coarse, cut, and now and then wrong."""

import re

import numpy as np

from .describe import describe_person
from .people import Person
from .phrases import with_article
from .things import ANIMALS
from .words import (
    BAG_WORDS,
    BOTTOM_WORDS,
    COLOUR_WORDS,
    HAT_WORDS,
    NOUNS,
    SHOE_WORDS,
    TOP_WORDS,
)
from .world import Scene, Thing, sample_scene

#: Share of the captions that are of another picture.
FOREIGN = 0.03
#: Share of the captions with a colour word that is another colour's.
MISCOLOURED = 0.05
#: Share of the captions that are a few words in a row.
EXCERPTS = 0.5
#: Share of the captions without commas and full stops.
UNPUNCTUATED = 0.3
_PLURALS = {'men': 'men', 'women': 'women', 'mixed': 'people'}
_THING_WORDS = {
    't-shirt': TOP_WORDS['t-shirt'],
    'jacket': TOP_WORDS['jacket'],
    'dress': TOP_WORDS['dress'],
    'trousers': (*BOTTOM_WORDS['trousers'], *BOTTOM_WORDS['jeans']),
    'skirt': BOTTOM_WORDS['skirt'],
    'shoes': ('pair of shoes', *SHOE_WORDS['sneakers']),
    'backpack': BAG_WORDS['backpack'],
    'handbag': (*BAG_WORDS['handbag'], 'bag'),
    'suitcase': BAG_WORDS['suitcase'],
    'bicycle': ('bicycle', 'bike'),
    'car': ('car', 'car', 'vehicle'),
    'shop': ('shop', 'store', 'shop front'),
    'sign': ('sign', 'road sign'),
    'cup': ('cup', 'mug'),
    'hat': ('hat', *HAT_WORDS['sun hat']),
}
_MEDIA = {
    'photo': ('a photo of', 'picture of', 'image of', 'photograph'),
    'flat': ('an illustration of', 'clip art', 'a drawing of', 'vector'),
    'outlined': ('a sketch of', 'a drawing of'),
    'grey': ('a black and white photo of', 'old photo of'),
    'faded': ('an old photo of', 'vintage'),
}
_PLACES = ('on the street', 'outside', 'in the city', 'at the station', 'in a park', 'in front')
_TAILS = ('for sale', 'stock photo', 'free download', 'new', 'background', 'isolated', 'hd')
_PLAIN_COLOURS = ('black', 'white', 'grey', 'blue', 'red', 'green', 'yellow', 'brown', 'pink')


def describe_scene(scene: Scene, rng: np.random.Generator) -> str:
    """One caption of a picture, of two words or more, in ASCII.

    A comma or full stop goes with the word before it.

    Args:
        scene: What the picture shows.
        rng: Decides what is told, in which words, what is left out and what is wrong.
    """
    if rng.random() < FOREIGN:
        scene = sample_scene(rng)
    words = _words_with_marks(_tell(scene, rng))
    if rng.random() < UNPUNCTUATED:
        words = [word.rstrip(',.') for word in words]
    if rng.random() < MISCOLOURED:
        wrong = _pick(rng, _PLAIN_COLOURS)
        words = [wrong if word in _PLAIN_COLOURS else word for word in words]
    return ' '.join(cut_words(words, rng))


def cut_words(words: list[str], rng: np.random.Generator) -> list[str]:
    """What is left of a text: now a few words in a row, now most words, three at least.

    Of the few words in a row, 5 to 12, up to a fifth are missing again; of a whole text a fifth to
    three fifths are, any of them.
    """
    missing = rng.uniform(0.2, 0.6)
    if rng.random() < EXCERPTS:
        length = int(rng.integers(5, 13))
        start = int(rng.integers(max(1, len(words) - length + 1)))
        words, missing = words[start : start + length], missing / 3
    kept = rng.random(len(words)) >= missing
    if kept.sum() < 3:
        kept[-3:] = True
    return [word for word, keep in zip(words, kept, strict=True) if keep]


def _words_with_marks(text: str) -> list[str]:
    """The lower-case words of a text, each with the comma or full stop behind it."""
    return re.findall(r"[a-z0-9]+(?:[-'][a-z0-9]+)*[,.]?", text.lower())


def _pick(rng: np.random.Generator, options) -> str:
    return options[int(rng.integers(len(options)))]


def _tell(scene: Scene, rng: np.random.Generator) -> str:
    parts = [_thing(thing, rng) for thing in scene.things]
    if scene.people:
        parts.insert(0, _people(scene, rng))
    text = f' {_pick(rng, ("and", "with", "next to", "near"))} '.join(parts)
    if rng.random() < 0.15:
        text = f'{_pick(rng, _MEDIA[scene.style])} {text}'
    if rng.random() < 0.15:
        text += ' ' + _pick(rng, _PLACES if scene.people else _TAILS)
    return text


def _thing(thing: Thing, rng: np.random.Generator) -> str:
    noun = _pick(rng, _THING_WORDS.get(thing.kind, (thing.kind,)))
    if rng.random() < 0.08:
        noun = 'animal' if thing.kind in ANIMALS else _pick(rng, ('thing', 'object', 'item'))
    phrase = f'{_colour(thing.colour, rng)} {noun}' if rng.random() < 0.85 else noun
    if thing.count == 1:
        return with_article(phrase)
    number = _pick(rng, ('two', 'some')) if thing.count == 2 else _pick(rng, ('three', 'some'))
    return f'{number} {phrase}' + ('' if phrase.endswith('s') else 's')


def _colour(name: str, rng: np.random.Generator) -> str:
    return _pick(rng, COLOUR_WORDS.get(name, (name,)))


def _people(scene: Scene, rng: np.random.Generator) -> str:
    if len(scene.people) > 1:
        return _group(scene.people, rng)
    [person] = scene.people
    if scene.frame == 'whole':
        if rng.random() < 0.7:
            return describe_person(person, rng)
        return _glance(person, rng)
    noun = _pick(rng, (*NOUNS[person.sex], 'person'))
    seen = _seen(person, scene.frame, rng)
    told = [phrase for phrase in seen if rng.random() < 0.7] or seen[:1]
    return f'{with_article(noun)} {_pick(rng, ("with", "in", "wearing"))} {" and ".join(told)}'


def _group(people: tuple[Person, ...], rng: np.random.Generator) -> str:
    """Several people, of whom one or two are told apart by a garment."""
    if rng.random() < 0.3:
        sexes = {person.sex for person in people}
        kind = 'mixed' if len(sexes) > 1 else 'men' if 'man' in sexes else 'women'
        return f'{("two", "three")[len(people) - 2]} {_PLURALS[kind]} {_pick(rng, _PLACES)}'
    return ' and '.join(_glance(person, rng) for person in people)


def _glance(person: Person, rng: np.random.Generator) -> str:
    """What one sees of somebody at a glance: a noun and one or two things."""
    noun = _pick(rng, (*NOUNS[person.sex], 'person', 'somebody'))
    if rng.random() < 0.15:
        return f'{with_article(noun)} in {_colour(person.top_colour, rng)}'
    seen = _seen(person, 'whole', rng)
    first = seen[int(rng.integers(len(seen)))]
    second = seen[int(rng.integers(len(seen)))]
    told = first if first == second or rng.random() < 0.2 else f'{first} and {second}'
    return f'{with_article(noun)} {_pick(rng, ("in", "with", "wearing"))} {told}'


def _seen(person: Person, frame: str, rng: np.random.Generator) -> list[str]:
    """Short phrases for what a frame shows of somebody."""
    phrases = []
    if frame in ('whole', 'upper'):
        noun = _pick(rng, TOP_WORDS[person.top])
        phrases.append(with_article(f'{_colour(person.top_colour, rng)} {noun}'))
        if person.bag in ('backpack', 'shoulder bag'):
            bag = _pick(rng, BAG_WORDS[person.bag])
            phrases.append(with_article(f'{_colour(person.bag_colour, rng)} {bag}'))
    if frame in ('whole', 'lower'):
        if person.bottom != 'bare legs':
            noun = _pick(rng, BOTTOM_WORDS[person.bottom])
            phrases.append(f'{_colour(person.bottom_colour, rng)} {noun}')
        noun = _pick(rng, SHOE_WORDS[person.shoes])
        phrases.append(f'{_colour(person.shoes_colour, rng)} {noun}')
    if frame in ('upper', 'head'):
        hair = 'no hair' if person.hair == 'bald' else f'{person.hair_colour} hair'
        phrases.append(hair)
    if frame != 'lower' and person.hat != 'none':
        noun = _pick(rng, HAT_WORDS[person.hat])
        phrases.append(with_article(f'{_colour(person.hat_colour, rng)} {noun}'))
    return phrases
