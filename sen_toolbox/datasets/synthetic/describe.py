"""Captions: say in varied English what a drawn person looks like."""

import re
from collections.abc import Sequence

import numpy as np

from .people import DARK, LIGHT, Person
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

#: Shortest and longest caption in words.
MIN_WORDS, MAX_WORDS = 12, 45
#: How many wordings are tried before less is told.
WORDINGS = 20

#: How often each detail is told when the person has it.
_TOLD = {
    'hair': 0.46,
    'shoes': 0.50,
    'bag': 0.8,
    'hat': 0.8,
    'glasses': 0.4,
    'carried': 0.5,
    'inner': 0.85,
    'second': 0.93,
    'build': 0.12,
}


def choose_facts(person: Person, rng: np.random.Generator) -> frozenset[str]:
    """What a caption will tell: attribute groups, by name.

    ``'top colour'`` and ``'bottom colour'`` are replaced by ``'top shade'`` and
    ``'bottom shade'`` where the caption only says dark or light.

    Args:
        person: Who is described.
        rng: Decides what is left out; at most one garment loses its colour.
    """
    facts = {'top', 'bottom', 'top colour', 'bottom colour'}
    if rng.random() < 0.93:
        facts.add('sex')
    present = {
        'hair': True,
        'shoes': True,
        'bag': person.bag != 'none',
        'hat': person.hat != 'none',
        'glasses': person.glasses != 'none',
        'carried': person.carried != 'none',
        'inner': person.inner_colour != 'none',
        'second': person.pattern != 'plain',
        'build': person.build != 'average',
    }
    for name, share in _TOLD.items():
        if rng.random() < share and present[name]:
            facts.add(name)
    vague = 'top' if rng.random() < 0.5 else 'bottom'
    colour = person.top_colour if vague == 'top' else person.bottom_colour
    if rng.random() < 0.06 and (colour in DARK or colour in LIGHT):
        facts.remove(f'{vague} colour')
        facts.add(f'{vague} shade')
        facts |= {'hair', 'shoes'}
    if person.bottom == 'bare legs':
        facts -= {'bottom', 'bottom colour', 'bottom shade'}
        facts.add('shoes')
    if rng.random() < 0.35:
        dropped = [
            name
            for name in ('carried', 'glasses', 'build', 'bag', 'hat', 'shoes', 'hair')
            if name in facts
        ]
        facts -= set(dropped[: len(dropped) // 2])
    if not facts & {'hair', 'shoes', 'bag', 'hat', 'inner', 'second'}:
        facts.add('hair' if rng.random() < 0.5 else 'shoes')
    return frozenset(facts)


def describe_person(person: Person, rng: np.random.Generator) -> str:
    """One caption of `MIN_WORDS` to `MAX_WORDS` words, in ASCII.

    Args:
        person: Who is described.
        rng: Decides what is told (`choose_facts`), in what order and in which words.
    """
    facts = choose_facts(person, rng)
    for attempt in range(2 * WORDINGS):
        caption = _Caption(person, facts, rng).write()
        count = len(caption.split())
        if count > MAX_WORDS:
            facts -= {'build', 'glasses', 'carried'}
            # Hardly anybody has so much on that no wording without those is short enough.
            if attempt >= WORDINGS:
                facts -= {'hair', 'shoes'}
        elif count < MIN_WORDS:
            facts |= {'hair', 'shoes'}
        else:
            return caption
    raise RuntimeError(f'no caption of {MIN_WORDS} to {MAX_WORDS} words for {person}: {caption!r}')


def split_words(caption: str) -> list[str]:
    """The lower-case words of a caption, as `processed_tokens` of CUHK-PEDES lists them."""
    return re.findall(r"[a-z0-9]+(?:[-'][a-z0-9]+)*", caption.lower())


def with_article(phrase: str) -> str:
    """Put the indefinite article before a phrase.

    >>> with_article('orange coat'), with_article('black coat')
    ('an orange coat', 'a black coat')
    """
    return f'{"an" if phrase[0] in "aeiou" else "a"} {phrase}'


def _join(phrases: Sequence[str]) -> str:
    if len(phrases) < 2:
        return ''.join(phrases)
    return f'{", ".join(phrases[:-1])} and {phrases[-1]}'


class _Caption:
    """The words for one person, drawn once, and the sentences they are put into."""

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
        return options[int(self.rng.integers(len(options)))]

    def colour(self, name: str) -> str:
        if name not in self.words:  # one caption does not call a colour grey, then gray
            self.words[name] = self.pick(COLOUR_WORDS.get(name, (name,)))
        return self.words[name]

    def write(self) -> str:
        """All sentences, capitalised and joined."""
        first, told = self._opening()
        sentences = [first, *self._rest(self._details(told))]
        return ' '.join(sentence[0].upper() + sentence[1:] + '.' for sentence in sentences)

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

    def _clothes(self) -> str:
        person = self.person
        if not self.bottom:
            return self.top
        if ' with ' in self.top:
            return f'{self.top} and {self.bottom}'
        if (
            person.top == 'suit'
            and 'bottom shade' not in self.facts
            and 'top shade' not in self.facts
            and self.rng.random() < 0.5
        ):
            return self.top + self.pick((' and matching pants', ' and matching trousers'))
        return self.pick(
            (
                f'{self.top} and {self.bottom}',
                f'{self.top} with {self.bottom}',
                f'{self.top} and {self.bottom}',
                f'{self.bottom} and {self.top}',
            )
        )

    def _hair(self) -> str:
        person = self.person
        if person.hair == 'bald':
            return self.pick(('a bald head', 'no hair', 'a shaved head'))
        colour = self._hair_colour()
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

    def _hair_colour(self) -> str:
        name = self.person.hair_colour
        return (
            self.pick(HAIR_COLOUR_WORDS[name]) if name in HAIR_COLOUR_WORDS else self.colour(name)
        )

    def _shoes(self) -> str:
        person = self.person
        phrase = f'{self.colour(person.shoes_colour)} {self.pick(SHOE_WORDS[person.shoes])}'
        return f'a pair of {phrase}' if self.rng.random() < 0.12 else phrase

    def _hat(self) -> str:
        noun = self.pick(HAT_WORDS[self.person.hat])
        return with_article(f'{self.colour(self.person.hat_colour)} {noun}')

    def _glasses(self) -> str:
        return self.pick(
            {
                'glasses': ('glasses', 'a pair of glasses', 'eyeglasses'),
                'sunglasses': ('sunglasses', 'dark sunglasses'),
            }[self.person.glasses]
        )

    def _bag_noun(self) -> str:
        noun = self.pick(BAG_WORDS[self.person.bag])
        if noun == 'purse' and self.person.sex == 'man':
            noun = 'bag'
        return with_article(f'{self.colour(self.person.bag_colour)} {noun}')

    def _bag(self) -> str:
        """A verb phrase that says which bag and how it is carried."""
        noun, whose = self._bag_noun(), self.possessive
        return self.pick(
            {
                'backpack': (
                    f'is carrying {noun}',
                    f'has {noun} on {whose} back',
                    f'carries {noun} on {whose} back',
                    f'is wearing {noun}',
                ),
                'shoulder bag': (
                    f'carries {noun} at {whose} side',
                    f'has {noun} across the body',
                    f'is carrying {noun} with a strap across the chest',
                ),
                'handbag': (
                    f'is holding {noun}',
                    f'carries {noun} in one hand',
                    f'has {noun} in {whose} hand',
                ),
                'suitcase': (
                    f'is pulling {noun}',
                    f'pulls {noun} behind',
                    f'is pulling {noun} along',
                ),
            }[self.person.bag]
        )

    def _carried(self) -> str:
        person = self.person
        verb = self.pick(('is holding', 'holds', 'is carrying', 'has'))
        if person.carried == 'shopping bag':
            bag = self.pick(('shopping bag', 'plastic bag'))
            thing = with_article(f'{self.colour(person.carried_colour)} {bag}')
        elif person.carried == 'umbrella':
            thing = with_article(f'{self.colour(person.carried_colour)} umbrella')
        else:
            thing = self.pick(CARRIED_WORDS[person.carried])
        return f'{verb} {thing}' + self.pick(('', f' in {self.possessive} hand', ' in one hand'))

    def _subject(self) -> str:
        noun = self.noun
        if 'build' in self.facts:
            word = self.pick(
                {'slim': ('slim', 'thin', 'slender'), 'heavy': ('heavyset', 'stocky', 'large')}[
                    self.person.build
                ]
            )
            noun = f'{word} {noun}'
        return self.pick((with_article(noun), with_article(noun), f'the {noun}', f'this {noun}'))

    def _opening(self) -> tuple[str, set[str]]:
        """The first sentence, and which details it has already told."""
        facts, rng = self.facts, self.rng
        subject, clothes = self._subject(), self._clothes()
        wears = self.pick(('is wearing', 'wears', 'is dressed in', 'is wearing', 'has on'))
        options = ['plain', 'plain', 'in', 'wearing', 'worn']
        if 'shoes' in facts:
            options += ['shoes', 'shoes', 'dressed shoes']
        if 'hair' in facts:
            options += ['hair', 'hair', 'hair and']
        if 'bag' in facts:
            options += ['bag', 'in bag']
        if 'hat' in facts:
            options += ['hat', 'hat']
        if self.bottom and not {'inner', 'second'} & facts:
            options.append('two')
        option = options[int(rng.integers(len(options)))]
        if option == 'plain':
            return f'{subject} {wears} {clothes}', set()
        if option == 'in':
            action = self.pick(('is walking', 'is out walking', 'is walking along'))
            return f'{subject} in {clothes} {action}', set()
        if option == 'wearing':
            action = self.pick(('is seen', 'is out walking', 'can be seen'))
            return f'{subject} {action} wearing {clothes}', set()
        if option == 'worn':
            return f'{self.pick(("wearing", "dressed in"))} {clothes}, {subject} is ' + self.pick(
                ('walking', 'on foot', 'walking along')
            ), set()
        if option == 'shoes':
            garments = (
                [self.top, self.bottom, self._shoes()] if self.bottom else [self.top, self._shoes()]
            )
            return f'{subject} {wears} {_join(garments)}', {'shoes'}
        if option == 'dressed shoes':
            verb = self.pick(('is wearing', 'wears', 'has on'))
            return f'dressed in {clothes}, {subject} {verb} {self._shoes()}', {'shoes'}
        if option == 'hair':
            return f'{subject} with {self._hair()} {wears} {clothes}', {'hair'}
        if option == 'hair and':
            return f'{subject} has {self._hair()} and {wears} {clothes}', {'hair'}
        if option == 'bag':
            return f'{subject} {wears} {clothes} and {self._bag()}', {'bag'}
        if option == 'in bag':
            return f'{subject} in {clothes} {self._bag()}', {'bag'}
        if option == 'hat':
            return f'{subject} in {self._hat()} {wears} {clothes}', {'hat'}
        return f'{subject} wears {self.top} on top and {self.bottom} below', set()

    def _details(self, told: set[str]) -> list[str]:
        """The details not told yet, in random order."""
        left: list[str] = [
            name
            for name in ('hair', 'shoes', 'hat', 'glasses', 'bag', 'carried')
            if name in self.facts and name not in told
        ]
        self.rng.shuffle(left)
        return left

    def _verb_phrase(self, name: str) -> str:
        pick = self.pick
        if name == 'hair':
            return f'has {self._hair()}'
        if name == 'shoes':
            return f'{pick(("is wearing", "wears", "has on", "also wears"))} {self._shoes()}'
        if name == 'hat':
            return pick(
                (f'is wearing {self._hat()}', f'has {self._hat()} on', f'wears {self._hat()}')
            )
        if name == 'glasses':
            return f'{pick(("wears", "is wearing", "has on"))} {self._glasses()}'
        return self._bag() if name == 'bag' else self._carried()

    def _rest(self, names: list[str]) -> list[str]:
        """Tell the named details in sentences of one to three."""
        sentences = []
        while names:
            size = min(int(self.rng.integers(1, 4)), len(names))
            part, names = names[:size], names[size:]
            if size == 1 and part[0] in ('hair', 'shoes', 'bag') and self.rng.random() < 0.4:
                sentences.append(self._about(part[0]))
            else:
                subject = self.pick((self.pronoun, self.pronoun, f'the {self.noun}'))
                sentences.append(f'{subject} {_join([self._verb_phrase(name) for name in part])}')
        return sentences

    def _about(self, name: str) -> str:
        """A sentence whose subject is the detail, not the person."""
        person, whose = self.person, self.possessive
        if name == 'shoes':
            return self.pick(
                (
                    f'{whose} shoes are {self.colour(person.shoes_colour)}',
                    f'on {whose} feet are {self._shoes()}',
                )
            )
        if name == 'bag':
            where = {
                'backpack': f'on {whose} back',
                'shoulder bag': f'at {whose} side',
                'handbag': f'in {whose} hand',
                'suitcase': f'behind {whose} legs',
            }
            return f'there is {self._bag_noun()} {where[person.bag]}'
        if person.hair == 'bald':
            return f'{whose} head is bald'
        colour = self._hair_colour()
        return {
            'short': f'{whose} hair is short and {colour}',
            'medium': f'{whose} {colour} hair reaches the shoulders',
            'long': f'{whose} hair is long and {colour}',
            'ponytail': f'{whose} {colour} hair is tied in a ponytail',
            'bun': f'{whose} {colour} hair is tied in a bun',
        }[person.hair]
