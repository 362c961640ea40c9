"""The exact colours of a person and of all that the person has on."""

from dataclasses import dataclass

import numpy as np

from .canvas import Cloth
from .people import COLOURS, HAIR_COLOURS, SKINS, Person


@dataclass(frozen=True)
class Look:
    """The exact RGB of everything on a person."""

    skin: np.ndarray
    hair: np.ndarray
    top: Cloth
    torso: Cloth
    sleeve: Cloth
    bottom: Cloth
    shoes: Cloth
    bag: np.ndarray
    hat: np.ndarray
    carried: np.ndarray


def look_of(person: Person) -> Look:
    """What a person has on; its exact colours are the person's own, whatever they are called."""
    rng = np.random.default_rng(person.tint)

    def shade(colour: tuple[int, int, int], spread: float = 0.05) -> np.ndarray:
        value = np.array(colour, dtype=np.float32)
        return np.clip(value * rng.normal(1, spread) + rng.normal(0, 3.5, 3), 8, 240).astype(
            np.float32
        )

    def cloth(name: str) -> np.ndarray | None:
        return None if name == 'none' else shade(COLOURS[name])

    skin = shade(SKINS[person.skin], 0.03)
    hair = skin * 0.95 if person.hair == 'bald' else shade(HAIR_COLOURS[person.hair_colour])
    top = shade(COLOURS[person.top_colour])
    second, inner = cloth(person.second_colour), cloth(person.inner_colour)
    bag, hat = cloth(person.bag_colour), cloth(person.hat_colour)
    period = rng.uniform(0.042, 0.062)
    bottom = shade(COLOURS[person.bottom_colour])
    if person.bottom == 'bare legs':
        bottom = skin
    elif person.bottom == 'jeans':
        bottom = bottom * 0.9 + np.array((4, 8, 16), dtype=np.float32)
    surface = Cloth(top, second=second, pattern=person.pattern, period=period)
    opening = {'suit': 0.46, 'vest': 0.40}.get(person.top, rng.uniform(0.34, 0.55))
    tie = shade(COLOURS[('navy', 'maroon', 'black')[person.tint % 3]])
    torso = Cloth(
        top,
        second=second,
        pattern=person.pattern,
        period=period,
        inner=inner,
        opening=opening,
        tie=tie if person.top == 'suit' and person.sex == 'man' else None,
        line=person.top in ('shirt', 'jacket', 'coat', 'hoodie'),
        straps=bag if person.bag == 'backpack' else None,
        belt=bag if person.bag == 'shoulder bag' else None,
    )
    if person.top == 'vest' and inner is not None:
        sleeve = Cloth(inner)
    elif person.pattern in ('logo', 'vertical stripes'):
        sleeve = Cloth(top)
    else:
        sleeve = surface
    shoes = shade(COLOURS[person.shoes_colour])
    carried = cloth(person.carried_colour)
    none = np.zeros(3, dtype=np.float32)
    return Look(
        skin=skin,
        hair=hair,
        top=surface,
        torso=torso,
        sleeve=sleeve,
        bottom=Cloth(bottom),
        shoes=Cloth(shoes),
        bag=none if bag is None else bag,
        hat=none if hat is None else hat,
        carried=none if carried is None else carried,
    )
