"""The drawn world: pictures of anything, of which pedestrians are the smaller part."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .canvas import Canvas
from .draw import OVERSAMPLING, crease, paint_person, photograph
from .figure import Figure
from .people import COLOURS, Person, sample_person
from .scene import CAMERAS, paint_background
from .things import ANIMALS, FUR, REACH, THINGS, paint_thing

#: What of a person a picture shows: share of the body's height at its upper and lower edge.
FRAMES = {'whole': (0.0, 1.0), 'upper': (0.0, 0.52), 'lower': (0.46, 1.0), 'head': (0.0, 0.24)}
STYLES = ('photo', 'flat', 'outlined', 'grey', 'faded')
_COLOURS = tuple(COLOURS)


@dataclass(frozen=True)
class Thing:
    """Some things of one kind and colour."""

    kind: str
    colour: str
    count: int


@dataclass(frozen=True)
class Scene:
    """What one picture shows.

    Args:
        people: The people from left to right.
        frame: How much of them is seen, a key of `FRAMES`.
        things: What stands beside them.
        style: How it is drawn, one of `STYLES`.
    """

    people: tuple[Person, ...]
    frame: str
    things: tuple[Thing, ...]
    style: str


def sample_scene(rng: np.random.Generator) -> Scene:
    """Any scene: two thirds show people, two fifths one person alone and whole."""
    kind = rng.random()
    people: tuple[Person, ...] = ()
    frame, num_things = 'whole', 0
    if kind < 0.40:
        people = (sample_person(rng),)
        num_things = int(rng.random() < 0.2)
    elif kind < 0.50:
        people = tuple(sample_person(rng) for _ in range(rng.integers(2, 4)))
    elif kind < 0.65:
        people = (sample_person(rng),)
        frame = ('upper', 'lower', 'head')[int(np.searchsorted((0.5, 0.85), rng.random()))]
    else:
        num_things = int(rng.integers(1, 4))
    things = tuple(_sample_thing(rng) for _ in range(num_things))
    style = STYLES[int(np.searchsorted((0.66, 0.78, 0.86, 0.92), rng.random()))]
    return Scene(people, frame, things, style)


def _sample_thing(rng: np.random.Generator) -> Thing:
    kind = list(THINGS)[rng.integers(len(THINGS))]
    colours = FUR if kind in ANIMALS else _COLOURS
    count = 1 if rng.random() < 0.8 else int(rng.integers(2, 4))
    return Thing(kind, colours[rng.integers(len(colours))], count)


def draw_scene(
    scene: Scene, rng: np.random.Generator, image_size: tuple[int, int] = (128, 64)
) -> np.ndarray:
    """Draw one picture of a scene.

    Args:
        scene: What it shows.
        rng: Decides places, sizes, background and light.
        image_size: (rows, columns); the picture is drawn at another shape and squeezed into it.

    Returns:
        (rows, columns, 3) uint8 RGB image.
    """
    rows = image_size[0] * OVERSAMPLING
    single = len(scene.people) == 1 and scene.frame == 'whole' and not scene.things
    columns = round(rows * (rng.uniform(0.4, 0.75) if single else rng.uniform(0.5, 1.15)))
    place = CAMERAS[rng.integers(len(CAMERAS))]
    pixels = _background(scene.style, place, rng, (rows, columns))
    folds = crease(rng, rows, columns)
    if scene.style == 'flat':
        folds = np.ones_like(folds)
    light = rng.uniform(-1, 1)

    def canvas(scale: float) -> Canvas:
        return Canvas(pixels=pixels, folds=folds, light=light, scale=scale)

    _place_things(scene, rng, canvas, (rows, columns))
    _place_people(scene, rng, canvas, (rows, columns), place.elevation)
    picture = photograph(pixels, place, rng, image_size)
    return _in_style(picture, scene.style)


def _background(style, place, rng, size) -> np.ndarray:
    if style == 'flat' or rng.random() < 0.2:  # as pictures of goods have
        level = rng.uniform(150, 245) + rng.normal(0, 8, 3)
        return np.broadcast_to(level.astype(np.float32), (*size, 3)).copy()
    return paint_background(place, rng, size)


def _place_things(scene, rng, canvas, size) -> None:
    rows, columns = size
    behind = bool(scene.people)
    for thing in scene.things:
        for _ in range(thing.count):
            share = rng.uniform(0.18, 0.45) if behind else rng.uniform(0.25, 0.85)
            scale = min(share * rows, columns / REACH) / np.sqrt(thing.count)
            left = columns * rng.uniform(0.2, 0.8)
            top = (rows - scale) * rng.uniform(0.1, 1.0)
            paint_thing(canvas(scale), thing.kind, thing.colour, left=left, top=top, rng=rng)


def _place_people(scene, rng, canvas, size, elevation) -> None:
    rows, columns = size
    upper, lower = FRAMES[scene.frame]
    count = len(scene.people)
    for index, person in enumerate(scene.people):
        share = rng.uniform(0.5, 0.98) if count == 1 else rng.uniform(0.45, 0.9)
        if scene.frame != 'whole':
            share = rng.uniform(0.95, 1.15)
        scale = share * rows / (lower - upper)
        middle = (index + 0.5) / count + rng.normal(0, 0.07 / count)
        top = (rows - share * rows) * rng.uniform(0.2, 0.9) - upper * scale
        figure = Figure(
            person,
            rng,
            canvas(scale),
            elevation=elevation * rng.uniform(0, 1.2),
            left=columns * float(middle),
            top=float(top),
        )
        paint_person(figure)


def _in_style(picture: np.ndarray, style: str) -> np.ndarray:
    image = Image.fromarray(picture)
    if style == 'grey':
        return np.asarray(image.convert('L').convert('RGB'))
    if style == 'outlined':
        edges = np.asarray(image.convert('L').filter(ImageFilter.FIND_EDGES), dtype=np.float32)
        value = picture * 0.6 + 100 - 1.5 * edges[..., None]
        return np.clip(value, 0, 255).astype(np.uint8)
    if style == 'faded':
        value = picture * 0.55 + np.array((96, 84, 66), dtype=np.float32)
        return np.clip(value, 0, 255).astype(np.uint8)
    return picture
