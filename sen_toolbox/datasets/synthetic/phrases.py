"""Phrases for what a drawn person looks like: of several wordings each one is drawn."""

import re
from collections.abc import Sequence

import numpy as np

from .people import DARK, Person
from .words import (
    BAG_WORDS,
    BOTTOM_WORDS,
    CARRIED_WORDS,
    COLOUR_WORDS,
    HAIR_COLOUR_WORDS,
    HAT_WORDS,
    NOUNS,
    SHOE_WORDS,
    TOP_WORDS,
)


def with_article(phrase: str) -> str:
    """Put the indefinite article before a phrase.

    >>> with_article('orange coat'), with_article('black coat')
    ('an orange coat', 'a black coat')
    """
    return f'{"an" if phrase[0] in "aeiou" else "a"} {phrase}'


def join_phrases(phrases: Sequence[str]) -> str:
    """Put commas and "and" between phrases.

    >>> join_phrases(['a hat', 'a coat', 'boots'])
    'a hat, a coat and boots'
    """
    if len(phrases) < 2:
        return ''.join(phrases)
    return f'{", ".join(phrases[:-1])} and {phrases[-1]}'


class Phrases:
    """The words for one person; noun, top and bottom are drawn once.

    Args:
        person: Who is described.
        facts: What may be told, of those that ``choose_facts`` chooses from.
        rng: Draws the words.
    """

    def __init__(self, person: Person, facts: frozenset[str], rng: np.random.Generator) -> None:
        self.person, self.facts, self.rng = person, facts, rng
        self.words: dict[str, str] = {}
        sex = person.sex if 'sex' in facts else 'person'
        self.noun = self.pick(NOUNS.get(sex, ('person', 'person', 'pedestrian', 'individual')))
        self.pronoun = {'man': 'he', 'woman': 'she'}.get(sex, 'the person')
        self.possessive = {'man': 'his', 'woman': 'her'}.get(sex, 'their')
        self.top = self._top()
        self.bottom = self._bottom()

    def pick(self, options: Sequence[str]) -> str:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def colour(self, name: str) -> str:
        """What one description calls a colour, the same each time."""
        if name not in self.words:  # one caption does not call a colour grey, then gray
            self.words[name] = self.pick(COLOUR_WORDS.get(name, (name,)))
        return self.words[name]

    def _garment_colour(self, garment: str) -> str:
        name = self.person.top_colour if garment == 'top' else self.person.bottom_colour
        if f'{garment} shade' in self.facts:
            return (
                self.pick(('dark', 'dark colored'))
                if name in DARK
                else self.pick(('light colored', 'light'))
            )
        return self.colour(name)

    def _top(self) -> str:
        person = self.person
        colour, noun = self._garment_colour('top'), self.pick(TOP_WORDS[person.top])
        if (
            person.top in ('shirt', 't-shirt', 'dress')
            and person.sleeves in ('long', 'short')
            and self.rng.random() < 0.25
        ):
            noun = (
                f'{person.sleeves}-sleeved {noun}'
                if self.rng.random() < 0.6
                else f'{person.sleeves} sleeve {noun}'
            )
        phrase = with_article(f'{colour} {noun}')
        if 'second' in self.facts:
            phrase = self._patterned(colour, self.colour(person.second_colour), noun)
        if 'inner' in self.facts:
            inner = self.colour(person.inner_colour)
            under = (
                self.pick(('shirt', 'shirt', 'top', 'undershirt'))
                if person.top not in ('suit', 'vest')
                else 'shirt'
            )
            if person.top in ('jacket', 'coat') and self.rng.random() < 0.35:
                phrase = re.sub('^an? ', 'an open ', phrase)
            phrase += ' ' + self.pick(
                (
                    f'over {with_article(f"{inner} {under}")}',
                    f'with {with_article(f"{inner} {under}")} underneath',
                    f'on top of {with_article(f"{inner} {under}")}',
                    f'over {with_article(f"{inner} {under}")}',
                )
            )
        return phrase

    def _patterned(self, colour: str, second: str, noun: str) -> str:
        pattern = self.person.pattern
        base = with_article(f'{colour} {noun}')
        both = self.pick((f'{colour} and {second}', f'{second} and {colour}'))
        if pattern == 'logo':
            mark = self.pick(('logo', 'logo', 'print', 'design', 'graphic'))
            place = self.pick((' on the front', ' on the chest', ' on it', ''))
            return f'{base} with {with_article(f"{second} {mark}")}{place}'
        if pattern == 'checks':
            word = self.pick(('checked', 'checkered', 'plaid', 'plaid'))
            return with_article(
                self.pick(
                    (f'{both} {word} {noun}', f'{word} {noun} in {both}', f'{both} {word} {noun}')
                )
            )
        if pattern == 'two-tone':
            return self.pick(
                (
                    with_article(f'{both} {noun}'),
                    f'{base} with {second} shoulders',
                    f'{base} with {with_article(f"{second} upper part")}',
                    with_article(f'two-tone {both} {noun}'),
                )
            )
        way = pattern.split()[0]
        return self.pick(
            (
                with_article(f'{both} striped {noun}'),
                f'{base} with {second} {way} stripes',
                f'{base} with {second} stripes',
                with_article(f'{both} {way}ly striped {noun}'),
            )
        )

    def _bottom(self) -> str:
        kind = self.person.bottom
        if kind == 'bare legs':
            return ''
        noun = self.pick(BOTTOM_WORDS[kind])
        phrase = f'{self._garment_colour("bottom")} {noun}'
        if kind in ('skirt', 'long skirt'):
            return with_article(phrase)
        return f'a pair of {phrase}' if self.rng.random() < 0.22 else phrase

    def hair(self) -> str:
        """Length or style and colour of the hair."""
        person = self.person
        if person.hair == 'bald':
            return self.pick(('a bald head', 'no hair', 'a shaved head'))
        colour = self.hair_colour()
        return {
            'short': (f'short {colour} hair', f'short, {colour} hair'),
            'medium': (f'shoulder-length {colour} hair', f'medium length {colour} hair'),
            'long': (f'long {colour} hair', f'long, {colour} hair'),
            'ponytail': (
                f'{colour} hair in a ponytail',
                f'{with_article(colour)} ponytail',
                f'{colour} hair tied back in a ponytail',
            ),
            'bun': (f'{colour} hair in a bun', f'{colour} hair tied up in a bun'),
        }[person.hair][int(self.rng.integers(2))]

    def hair_colour(self) -> str:
        """The colour of the hair."""
        name = self.person.hair_colour
        return (
            self.pick(HAIR_COLOUR_WORDS[name]) if name in HAIR_COLOUR_WORDS else self.colour(name)
        )

    def shoes(self) -> str:
        """The shoes with their colour."""
        person = self.person
        phrase = f'{self.colour(person.shoes_colour)} {self.pick(SHOE_WORDS[person.shoes])}'
        return f'a pair of {phrase}' if self.rng.random() < 0.12 else phrase

    def hat(self) -> str:
        """The hat with its colour; there must be one."""
        noun = self.pick(HAT_WORDS[self.person.hat])
        return with_article(f'{self.colour(self.person.hat_colour)} {noun}')

    def glasses(self) -> str:
        """The glasses; there must be some."""
        return self.pick(
            {
                'glasses': ('glasses', 'a pair of glasses', 'eyeglasses'),
                'sunglasses': ('sunglasses', 'dark sunglasses'),
            }[self.person.glasses]
        )

    def bag(self) -> str:
        """The bag with its colour; there must be one."""
        noun = self.pick(BAG_WORDS[self.person.bag])
        if noun == 'purse' and self.person.sex == 'man':
            noun = 'bag'
        return with_article(f'{self.colour(self.person.bag_colour)} {noun}')

    def carried(self) -> str:
        """What somebody carries; there must be something."""
        person = self.person
        if person.carried == 'shopping bag':
            bag = self.pick(('shopping bag', 'plastic bag'))
            return with_article(f'{self.colour(person.carried_colour)} {bag}')
        if person.carried == 'umbrella':
            return with_article(f'{self.colour(person.carried_colour)} umbrella')
        return self.pick(CARRIED_WORDS[person.carried])
