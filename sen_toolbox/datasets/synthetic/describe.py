"""Captions: say in varied English what a drawn person looks like."""

import re

import numpy as np

from .people import DARK, LIGHT, Person
from .phrases import Phrases, join_phrases, with_article

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


class _Caption(Phrases):
    """The sentences that tell a person's facts."""

    def write(self) -> str:
        """All sentences, capitalised and joined."""
        first, told = self._opening()
        sentences = [first, *self._rest(self._details(told))]
        return ' '.join(sentence[0].upper() + sentence[1:] + '.' for sentence in sentences)

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

    def _bag(self) -> str:
        """A verb phrase that says which bag and how it is carried."""
        noun, whose = self.bag(), self.possessive
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
        verb = self.pick(('is holding', 'holds', 'is carrying', 'has'))
        where = ('', f' in {self.possessive} hand', ' in one hand')
        return f'{verb} {self.carried()}' + self.pick(where)

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
                [self.top, self.bottom, self.shoes()] if self.bottom else [self.top, self.shoes()]
            )
            return f'{subject} {wears} {join_phrases(garments)}', {'shoes'}
        if option == 'dressed shoes':
            verb = self.pick(('is wearing', 'wears', 'has on'))
            return f'dressed in {clothes}, {subject} {verb} {self.shoes()}', {'shoes'}
        if option == 'hair':
            return f'{subject} with {self.hair()} {wears} {clothes}', {'hair'}
        if option == 'hair and':
            return f'{subject} has {self.hair()} and {wears} {clothes}', {'hair'}
        if option == 'bag':
            return f'{subject} {wears} {clothes} and {self._bag()}', {'bag'}
        if option == 'in bag':
            return f'{subject} in {clothes} {self._bag()}', {'bag'}
        if option == 'hat':
            return f'{subject} in {self.hat()} {wears} {clothes}', {'hat'}
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
            return f'has {self.hair()}'
        if name == 'shoes':
            return f'{pick(("is wearing", "wears", "has on", "also wears"))} {self.shoes()}'
        if name == 'hat':
            return pick((f'is wearing {self.hat()}', f'has {self.hat()} on', f'wears {self.hat()}'))
        if name == 'glasses':
            return f'{pick(("wears", "is wearing", "has on"))} {self.glasses()}'
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
                sentences.append(
                    f'{subject} {join_phrases([self._verb_phrase(name) for name in part])}'
                )
        return sentences

    def _about(self, name: str) -> str:
        """A sentence whose subject is the detail, not the person."""
        person, whose = self.person, self.possessive
        if name == 'shoes':
            return self.pick(
                (
                    f'{whose} shoes are {self.colour(person.shoes_colour)}',
                    f'on {whose} feet are {self.shoes()}',
                )
            )
        if name == 'bag':
            where = {
                'backpack': f'on {whose} back',
                'shoulder bag': f'at {whose} side',
                'handbag': f'in {whose} hand',
                'suitcase': f'behind {whose} legs',
            }
            return f'there is {self.bag()} {where[person.bag]}'
        if person.hair == 'bald':
            return f'{whose} head is bald'
        colour = self.hair_colour()
        return {
            'short': f'{whose} hair is short and {colour}',
            'medium': f'{whose} {colour} hair reaches the shoulders',
            'long': f'{whose} hair is long and {colour}',
            'ponytail': f'{whose} {colour} hair is tied in a ponytail',
            'bun': f'{whose} {colour} hair is tied in a bun',
        }[person.hair]
