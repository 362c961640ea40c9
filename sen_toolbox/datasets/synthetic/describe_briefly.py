"""What people type into a search: a noun, and one to three things that somebody wears or has."""

import numpy as np

from .people import Person
from .phrases import Phrases, join_phrases, with_article

#: How often one, two and three things are told.
NUMBERS = (0.35, 0.4, 0.25)
#: How often the sex is told, and an article goes before the noun.
SEXED, WITH_ARTICLE = 0.75, 0.75
#: How often pattern and undershirt are told of a top that has them.
WHOLE_TOPS = 0.25
#: How often a thing is told, relative to the others that somebody has. Few have a hat, and those
#: who have one are known by it.
_WEIGHTS = {
    'top': 3,
    'bottom': 2,
    'shoes': 1.5,
    'hat': 6,
    'hair': 1,
    'glasses': 1.5,
    'bag': 5,
    'carried': 2,
}
_WORN = ('top', 'bottom', 'shoes', 'hat')


def describe_briefly(person: Person, rng: np.random.Generator) -> str:
    """A description of about 3 to 26 words, in ASCII, without a capital and a full stop.

    Args:
        person: Who is described.
        rng: Decides what is told, in what order and in which words.
    """
    facts = {'sex'} if rng.random() < SEXED else set()
    if rng.random() < WHOLE_TOPS:
        more = {'second': person.pattern != 'plain', 'inner': person.inner_colour != 'none'}
        facts |= {fact for fact, is_there in more.items() if is_there}
    words = Phrases(person, frozenset(facts), rng)
    phrases = {
        'top': words.top,
        'bottom': words.bottom,
        'shoes': words.shoes(),
        'hat': '' if person.hat == 'none' else words.hat(),
        'hair': words.hair(),
        'glasses': '' if person.glasses == 'none' else words.glasses(),
        'bag': '' if person.bag == 'none' else words.bag(),
        'carried': '' if person.carried == 'none' else words.carried(),
    }
    there = [name for name, phrase in phrases.items() if phrase]
    weights = np.array([_WEIGHTS[name] for name in there], dtype=float)
    number = 1 + int(rng.choice(len(NUMBERS), p=NUMBERS))
    told = rng.choice(there, number, replace=False, p=weights / weights.sum()).tolist()
    worn = [phrases[name] for name in told if name in _WORN]
    had = [phrases[name] for name in told if name not in _WORN]
    parts = [with_article(words.noun) if rng.random() < WITH_ARTICLE else words.noun]
    if worn:
        parts.append(f'{words.pick(("in", "in", "wearing"))} {join_phrases(worn)}')
    if had:
        parts.append(f'with {join_phrases(had)}')
    return ' '.join(parts)
