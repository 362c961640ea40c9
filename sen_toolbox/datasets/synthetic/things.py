"""Things, animals and shops of the drawn world, each a list of soft shapes."""

from typing import NamedTuple

import numpy as np

from .canvas import Canvas, Cloth
from .people import COLOURS


class Shape(NamedTuple):
    """One shape of a thing, in heights of the thing: x from its middle, y down from its top.

    Args:
        kind: 'box', 'ellipse' or 'limb'; a limb goes from (x, y) to (width, height).
        x: Middle of the shape, or where the limb begins.
        y: Middle of the shape, or where the limb begins.
        width: Half of it, or the column of the limb's end.
        height: Half of it, or the row of the limb's end.
        colour: 'main', a factor on it, or one of `_FIXED`.
        radius: Of a limb, or of the corners of a box.
    """

    kind: str
    x: float
    y: float
    width: float
    height: float
    colour: str | float = 'main'
    radius: float = 0.02


_FIXED = {
    'glass': (150, 172, 186),
    'rubber': (36, 36, 38),
    'wood': (112, 78, 50),
    'metal': (138, 140, 144),
    'leaf': (64, 104, 54),
    'paper': (226, 224, 216),
    'skin': (214, 172, 144),
    'dark': (52, 48, 48),
    'gold': (226, 190, 80),
}


def _box(x, y, width, height, colour='main', radius=0.02):
    return Shape('box', x, y, width, height, colour, radius)


def _ball(x, y, width, height, colour='main'):
    return Shape('ellipse', x, y, width, height, colour)


def _rod(x, y, end_x, end_y, radius, colour='main'):
    return Shape('limb', x, y, end_x, end_y, colour, radius)


def _legs(*columns, top, radius=0.045):
    return [_rod(x, top, x, 0.97, radius, 0.9) for x in columns]


#: Shapes of each thing, from back to front.
THINGS = {
    'car': [
        _box(0, 0.70, 0.85, 0.20, 'main', 0.1),
        _box(-0.05, 0.38, 0.48, 0.26, 'main', 0.14),
        _box(-0.05, 0.36, 0.40, 0.16, 'glass', 0.08),
        _ball(-0.50, 0.88, 0.17, 0.17, 'rubber'),
        _ball(0.50, 0.88, 0.17, 0.17, 'rubber'),
    ],
    'bus': [
        _box(0, 0.48, 0.95, 0.42, 'main', 0.08),
        *(_box(x, 0.32, 0.15, 0.15, 'glass') for x in (-0.7, -0.33, 0.04, 0.41, 0.75)),
        _ball(-0.55, 0.90, 0.14, 0.14, 'rubber'),
        _ball(0.55, 0.90, 0.14, 0.14, 'rubber'),
    ],
    'bicycle': [
        _ball(-0.48, 0.68, 0.31, 0.31, 'rubber'),
        _ball(0.48, 0.68, 0.31, 0.31, 'rubber'),
        _ball(-0.48, 0.68, 0.24, 0.24, 'paper'),
        _ball(0.48, 0.68, 0.24, 0.24, 'paper'),
        _rod(-0.48, 0.68, -0.2, 0.3, 0.03),
        _rod(-0.2, 0.3, 0.35, 0.28, 0.03),
        _rod(0.0, 0.68, 0.35, 0.28, 0.03),
        _rod(0.35, 0.15, 0.48, 0.68, 0.03),
    ],
    'bench': [
        _box(0, 0.30, 0.8, 0.09),
        _box(0, 0.58, 0.85, 0.07, 0.85),
        _rod(-0.65, 0.6, -0.65, 0.97, 0.04, 'metal'),
        _rod(0.65, 0.6, 0.65, 0.97, 0.04, 'metal'),
    ],
    'chair': [
        _box(-0.02, 0.28, 0.26, 0.27),
        _box(0, 0.58, 0.30, 0.06, 0.8),
        _rod(-0.25, 0.6, -0.27, 0.97, 0.03, 'wood'),
        _rod(0.25, 0.6, 0.27, 0.97, 0.03, 'wood'),
    ],
    'table': [
        _box(0, 0.40, 0.8, 0.06),
        _rod(-0.65, 0.44, -0.65, 0.97, 0.045, 0.8),
        _rod(0.65, 0.44, 0.65, 0.97, 0.045, 0.8),
    ],
    'house': [
        _box(0, 0.68, 0.55, 0.32),
        _rod(0, 0.1, -0.62, 0.42, 0.09, 'dark'),
        _rod(0, 0.1, 0.62, 0.42, 0.09, 'dark'),
        _box(0, 0.3, 0.34, 0.14, 'dark'),
        _box(-0.28, 0.64, 0.12, 0.11, 'glass'),
        _box(0.28, 0.64, 0.12, 0.11, 'glass'),
        _box(0, 0.82, 0.11, 0.18, 'wood'),
    ],
    'tree': [_rod(0, 0.4, 0, 0.97, 0.07, 'wood'), _ball(0, 0.34, 0.36, 0.33, 'leaf')],
    'flower': [
        _rod(0, 0.3, 0.04, 0.97, 0.025, 'leaf'),
        *(_ball(0.17 * np.cos(a), 0.26 + 0.17 * np.sin(a), 0.12, 0.12) for a in range(6)),
        _ball(0, 0.26, 0.09, 0.09, 'gold'),
    ],
    'ball': [_ball(0, 0.5, 0.48, 0.48), _ball(-0.12, 0.32, 0.14, 0.12, 1.25)],
    'balloon': [_ball(0, 0.34, 0.30, 0.34), _rod(0, 0.66, 0.06, 0.97, 0.01, 'metal')],
    'cup': [
        _ball(0.38, 0.52, 0.18, 0.22),
        _ball(0.38, 0.52, 0.10, 0.13, 'paper'),
        _box(0, 0.55, 0.36, 0.42),
    ],
    'bottle': [
        _box(0, 0.64, 0.19, 0.35, 'main', 0.06),
        _box(0, 0.17, 0.08, 0.16),
        _box(0, 0.03, 0.09, 0.03, 'dark'),
        _box(0, 0.65, 0.19, 0.12, 'paper'),
    ],
    'lamp': [_rod(0, 0.2, 0, 0.93, 0.03, 'metal'), _box(0, 0.2, 0.3, 0.19, 'main', 0.08)],
    'box': [_box(0, 0.55, 0.5, 0.44), _box(0, 0.55, 0.07, 0.44, 1.2), _box(0, 0.18, 0.54, 0.09)],
    'sign': [
        _rod(0, 0.2, 0, 0.98, 0.03, 'metal'),
        _box(0, 0.25, 0.42, 0.24),
        _box(0, 0.25, 0.28, 0.05, 'paper'),
    ],
    'umbrella': [
        _ball(0, 0.42, 0.55, 0.38),
        _box(0, 0.62, 0.6, 0.19, 'paper', 0.0),
        _rod(0, 0.1, 0, 0.93, 0.02, 'wood'),
    ],
    'suitcase': [
        _rod(-0.15, 0.02, -0.15, 0.3, 0.02, 'metal'),
        _rod(0.15, 0.02, 0.15, 0.3, 0.02, 'metal'),
        _box(0, 0.6, 0.34, 0.36, 'main', 0.06),
        _box(0, 0.6, 0.25, 0.28, 0.85, 0.04),
    ],
    'backpack': [
        _ball(0, 0.12, 0.12, 0.12),
        _box(0, 0.55, 0.36, 0.44, 'main', 0.16),
        _box(0, 0.70, 0.28, 0.20, 0.82, 0.06),
    ],
    'handbag': [
        _ball(0, 0.32, 0.28, 0.30, 0.8),
        _ball(0, 0.32, 0.22, 0.24, 'paper'),
        _box(0, 0.68, 0.46, 0.31, 'main', 0.08),
    ],
    't-shirt': [
        _rod(-0.32, 0.18, -0.62, 0.46, 0.14),
        _rod(0.32, 0.18, 0.62, 0.46, 0.14),
        _box(0, 0.53, 0.38, 0.45, 'main', 0.06),
        _ball(0, 0.07, 0.16, 0.09, 'paper'),
    ],
    'jacket': [
        _rod(-0.32, 0.18, -0.56, 0.86, 0.12),
        _rod(0.32, 0.18, 0.56, 0.86, 0.12),
        _box(0, 0.53, 0.38, 0.45, 'main', 0.06),
        _box(0, 0.53, 0.02, 0.45, 0.6),
        _box(0, 0.08, 0.16, 0.07, 0.75),
    ],
    'trousers': [
        _rod(-0.14, 0.1, -0.2, 0.95, 0.13),
        _rod(0.14, 0.1, 0.2, 0.95, 0.13),
        _box(0, 0.08, 0.27, 0.08, 0.85),
    ],
    'dress': [
        _box(0, 0.24, 0.2, 0.22, 'main', 0.05),
        _rod(0, 0.5, -0.2, 0.86, 0.16),
        _rod(0, 0.5, 0.2, 0.86, 0.16),
        _rod(0, 0.4, 0, 0.86, 0.18),
    ],
    'skirt': [
        _box(0, 0.1, 0.24, 0.08, 0.85),
        _rod(-0.08, 0.3, -0.3, 0.84, 0.18),
        _rod(0.08, 0.3, 0.3, 0.84, 0.18),
        _rod(0, 0.3, 0, 0.84, 0.2),
    ],
    'shoes': [
        _rod(-0.55, 0.3, -0.55, 0.66, 0.2),
        _rod(-0.55, 0.72, -0.1, 0.8, 0.17),
        _rod(0.35, 0.3, 0.35, 0.66, 0.2),
        _rod(0.35, 0.72, 0.8, 0.8, 0.17),
        _box(-0.33, 0.95, 0.42, 0.05, 'paper'),
        _box(0.57, 0.95, 0.42, 0.05, 'paper'),
    ],
    'hat': [
        _ball(0, 0.75, 0.75, 0.2, 0.9),
        _ball(0, 0.45, 0.4, 0.42),
        _box(0, 0.66, 0.4, 0.06, 'dark'),
    ],
    'shop': [
        _box(0, 0.5, 0.62, 0.5, 'paper'),
        _box(0, 0.08, 0.55, 0.08, 'dark'),
        _box(0, 0.28, 0.66, 0.10),
        *(_box(x, 0.28, 0.07, 0.10, 1.3) for x in (-0.5, -0.22, 0.06, 0.34)),
        _box(-0.22, 0.66, 0.32, 0.22, 'glass'),
        _box(0.38, 0.72, 0.15, 0.28, 'wood'),
    ],
    'dog': [
        _rod(-0.62, 0.3, -0.4, 0.45, 0.05),
        _rod(-0.4, 0.5, 0.35, 0.5, 0.19),
        *_legs(-0.42, -0.24, 0.22, 0.4, top=0.55, radius=0.055),
        _rod(0.4, 0.42, 0.52, 0.25, 0.12),
        _ball(0.6, 0.22, 0.19, 0.16),
        _ball(0.76, 0.27, 0.11, 0.08, 0.9),
        _rod(0.48, 0.12, 0.44, 0.34, 0.05, 0.7),
    ],
    'cat': [
        _rod(-0.5, 0.1, -0.42, 0.6, 0.045),
        _rod(-0.35, 0.62, 0.25, 0.6, 0.18),
        *_legs(-0.36, -0.2, 0.14, 0.28, top=0.66),
        _ball(0.42, 0.38, 0.2, 0.18),
        _rod(0.3, 0.15, 0.33, 0.3, 0.05),
        _rod(0.54, 0.15, 0.51, 0.3, 0.05),
    ],
    'horse': [
        _rod(-0.5, 0.35, -0.55, 0.7, 0.05, 'dark'),
        _rod(-0.35, 0.42, 0.3, 0.42, 0.17),
        *_legs(-0.4, -0.26, 0.22, 0.36, top=0.45),
        _rod(0.36, 0.36, 0.55, 0.12, 0.1),
        _rod(0.55, 0.1, 0.72, 0.2, 0.075),
        _rod(0.3, 0.26, 0.46, 0.06, 0.04, 'dark'),
    ],
    'cow': [
        _rod(-0.42, 0.42, 0.35, 0.42, 0.22),
        _ball(-0.2, 0.36, 0.16, 0.12, 'paper'),
        _ball(0.14, 0.46, 0.13, 0.1, 'paper'),
        *_legs(-0.42, -0.26, 0.2, 0.36, top=0.5, radius=0.06),
        _ball(0.62, 0.3, 0.16, 0.16),
        _ball(0.7, 0.38, 0.1, 0.08, 'skin'),
    ],
    'bird': [
        _rod(-0.55, 0.6, -0.2, 0.5, 0.07, 0.8),
        _ball(0, 0.48, 0.34, 0.25),
        _ball(-0.06, 0.46, 0.2, 0.14, 0.75),
        _ball(0.3, 0.22, 0.16, 0.16),
        _rod(0.44, 0.22, 0.58, 0.26, 0.03, 'gold'),
        _rod(0, 0.7, 0.02, 0.97, 0.02, 'gold'),
        _rod(0.1, 0.7, 0.14, 0.97, 0.02, 'gold'),
    ],
}
ANIMALS = ('dog', 'cat', 'horse', 'cow', 'bird')
FUR = ('black', 'white', 'grey', 'brown', 'beige')
#: Half the width of the widest thing, in its heights.
REACH = 0.9


def paint_thing(
    canvas: Canvas, kind: str, colour: str, *, left: float, top: float, rng: np.random.Generator
) -> None:
    """Paint a thing whose height is the scale of the canvas.

    Args:
        canvas: Is painted on.
        kind: A key of `THINGS`.
        colour: A key of `people.COLOURS`.
        left: Column of its middle in pixels.
        top: Row of its top in pixels.
        rng: Decides its shade, and which way it looks.
    """
    main = np.array(COLOURS[colour], dtype=np.float32) * rng.normal(1, 0.06)
    main = np.clip(main + rng.normal(0, 4, 3), 8, 240).astype(np.float32)
    side = rng.choice((-1.0, 1.0))

    def at(x: float, y: float) -> tuple[float, float]:
        return left + side * x * canvas.scale, top + y * canvas.scale

    for shape in THINGS[kind]:
        value = _colour(shape.colour, main)
        if shape.kind == 'limb':
            end = at(shape.width, shape.height)
            canvas.limb(at(shape.x, shape.y), end, shape.radius, shape.radius, Cloth(value))
        elif shape.kind == 'box':
            place = at(shape.x, shape.y)
            canvas.box(place, shape.width, shape.height, value, corner=shape.radius)
        else:
            canvas.ellipse(at(shape.x, shape.y), shape.width, shape.height, value)


def _colour(name: str | float, main: np.ndarray) -> np.ndarray:
    if name == 'main':
        return main
    if isinstance(name, str):
        return np.array(_FIXED[name], dtype=np.float32)
    return np.clip(main * np.float32(name), 0, 245)
