"""Legs, torso and arms of a figure, and what they are dressed in."""

import numpy as np

from .canvas import Cloth
from .figure import Figure, Spot, below, between

#: How far down each upper garment reaches, in body heights.
_HEMS = {
    't-shirt': 0.515,
    'shirt': 0.53,
    'sweater': 0.525,
    'hoodie': 0.53,
    'jacket': 0.525,
    'coat': 0.69,
    'vest': 0.52,
    'tank top': 0.51,
    'suit': 0.56,
    'dress': 0.70,
}


def add_leg(figure: Figure, side: int) -> None:
    """Adds one leg, 0 or 1, with its shoe."""
    person, look, canvas = figure.person, figure.look, figure.canvas
    hip = ((-1, 1)[side] * figure.hip, 0.495, 0.0)
    knee, ankle, toe = figure.knees[side], figure.ankles[side], figure.toes[side]
    kind = person.bottom
    wide = figure.width
    slim = kind in ('leggings', 'tights', 'bare legs')
    thigh, shin, hem = (0.050, 0.034, 0.021) if slim else (0.053, 0.040, 0.034)
    if kind == 'sweatpants':
        thigh, shin, hem = 0.057, 0.047, 0.036
    elif kind == 'jeans' and person.sex == 'woman':
        shin, hem = 0.037, 0.027
    bare = kind in ('shorts', 'skirt', 'long skirt')
    skin = Cloth(look.skin)

    def paint() -> None:
        foot = figure.at(ankle)
        if bare:
            canvas.limb(figure.at(hip), figure.at(knee), 0.046 * wide, 0.033 * wide, skin)
            canvas.limb(figure.at(knee), foot, 0.034 * wide, 0.020, skin)
        _paint_shoe(figure, ankle, toe)
        if not bare:
            low = between(knee, ankle, 0.97)
            canvas.limb(figure.at(hip), figure.at(knee), thigh * wide, shin * wide, look.bottom)
            canvas.limb(figure.at(knee), figure.at(low), shin * wide, hem * wide, look.bottom)
        if kind == 'jeans':
            worn = Cloth(look.bottom.colour * 1.16)
            canvas.limb(
                figure.at(between(hip, knee, 0.35)),
                figure.at(between(hip, knee, 0.85)),
                thigh * 0.55 * wide,
                shin * 0.5 * wide,
                worn,
            )
        if person.shoes == 'boots' and (slim or bare):
            canvas.limb(figure.at(between(knee, ankle, 0.45)), foot, 0.034, 0.027, look.shoes)
        if kind == 'shorts':
            canvas.limb(
                figure.at(hip),
                figure.at(between(hip, knee, 0.86)),
                0.056 * wide,
                0.050 * wide,
                look.bottom,
            )

    figure.parts.append((-0.5 + figure.near(between(hip, ankle, 0.6)), paint))


def _paint_shoe(figure: Figure, ankle: Spot, toe: Spot) -> None:
    shoes, canvas, look = figure.person.shoes, figure.canvas, figure.look
    heel = (ankle[0], ankle[1] + 0.022, ankle[2] - 0.015)
    if shoes == 'sandals':
        canvas.limb(figure.at(heel), figure.at(toe), 0.018, 0.017, Cloth(look.skin))
        canvas.limb(figure.at(heel), figure.at(between(heel, toe, 0.4)), 0.019, 0.016, look.shoes)
        return
    if shoes == 'high heels':
        canvas.limb(figure.at(heel), figure.at(toe), 0.015, 0.014, look.shoes)
        return
    if shoes == 'sneakers':
        sole = Cloth(np.array((205, 205, 203), dtype=np.float32))
        canvas.limb(figure.at(below(heel, 0.006)), figure.at(below(toe, 0.006)), 0.022, 0.020, sole)
    thick = 0.026 if shoes == 'boots' else 0.020 if shoes == 'flats' else 0.023
    if shoes == 'boots':
        canvas.limb(figure.at(below(ankle, -0.02)), figure.at(heel), 0.027, 0.026, look.shoes)
    canvas.limb(figure.at(heel), figure.at(toe), thick, thick * 0.86, look.shoes)


def add_torso(figure: Figure) -> None:
    """Adds what covers the torso, above and below the waist."""
    person, look = figure.person, figure.look
    bulk, wide = figure.bulk, figure.width
    hem = _HEMS[person.top]
    flare = {'dress': 0.045, 'coat': 0.020}.get(person.top, 0.004)
    waist = 0.083 if person.sex == 'woman' else 0.094
    hips = figure.hip + 0.050 * wide
    if person.build == 'heavy':
        waist += 0.012
    chest = figure.shoulder - 0.006
    knots = [
        (0.148, 0.036, 0.036),
        (0.158, 0.058 * wide, 0.044),
        (0.172, 0.092 * wide, 0.052),
        (0.192, chest, 0.060),
        (0.25, chest - 0.006, figure.depth + 0.006),
        (0.36, waist * wide, figure.depth),
        (0.47, hips, figure.depth + 0.006),
        (0.52, hips, figure.depth + 0.008),
    ]
    if hem > 0.57:
        knots.append((hem, hips + flare, figure.depth + 0.008 + flare))

    def paint_bottom() -> None:
        if person.bottom in ('skirt', 'long skirt'):
            low = 0.70 if person.bottom == 'skirt' else 0.88
            _shell(
                figure,
                [
                    (0.44, waist * wide, figure.depth),
                    (0.50, hips, figure.depth + 0.008),
                    (low, hips + 0.028, figure.depth + 0.030),
                ],
                low,
                look.bottom,
                0.004,
            )
        elif person.bottom not in ('bare legs', 'tights'):
            _shell(
                figure,
                [
                    (0.45, waist * wide, figure.depth - 0.004),
                    (0.50, hips, figure.depth),
                    (0.545, hips - 0.01, figure.depth - 0.01),
                ],
                0.545,
                look.bottom,
                0.002,
            )

    def paint() -> None:
        inner = look.torso.inner
        if person.top in ('vest', 'jacket', 'coat') and inner is not None:
            _shell(figure, knots, 0.535, Cloth(inner), 0.004)
        _shell(figure, knots, hem, look.torso, bulk)

    figure.parts.append((-0.1, paint_bottom))
    figure.parts.append((0.0, paint))


def _shell(
    figure: Figure, knots: list[tuple[float, float, float]], hem: float, cloth: Cloth, bulk: float
) -> None:
    """Cloth around knots (down, half width, half depth), down to a hem."""
    heights = [knot[0] for knot in knots]
    downs = [down for down in heights if down < hem - 0.004] + [hem]
    halves, centres, rows = [], [], []
    for down in downs:
        sideways = float(np.interp(down, heights, [knot[1] for knot in knots]))
        forwards = float(np.interp(down, heights, [knot[2] for knot in knots]))
        halves.append((figure.half(sideways, forwards) + bulk) * figure.canvas.scale)
        x, y = figure.at((0.0, down, 0.0))
        centres.append(x)
        rows.append(y)
    figure.canvas.shell(np.array(rows), np.array(centres), np.array(halves), figure.yaw, cloth)


def add_arm(figure: Figure, side: int) -> None:
    """Adds one arm, 0 or 1, with its sleeve."""
    person, look, canvas = figure.person, figure.look, figure.canvas
    sign = (-1, 1)[side]
    shoulder = (sign * (figure.shoulder - 0.027), 0.205, 0.0)
    elbow, hand = figure.elbows[side], figure.hands[side]
    thick = figure.width * (0.92 if person.sex == 'woman' else 1.0)
    upper, middle, wrist = 0.033 * thick, 0.027 * thick, 0.019 * thick
    skin = Cloth(look.skin)
    bulk = figure.bulk * (0.4 if person.top == 'vest' else 0.75)

    def paint() -> None:
        canvas.ellipse(figure.at(between(elbow, hand, 1.10)), 0.019, 0.024, look.skin)
        if person.sleeves != 'long':
            canvas.limb(figure.at(shoulder), figure.at(elbow), upper, middle, skin)
            canvas.limb(figure.at(elbow), figure.at(hand), middle, wrist, skin)
        if person.sleeves == 'long':
            canvas.limb(
                figure.at(elbow),
                figure.at(between(elbow, hand, 0.97)),
                middle + bulk,
                wrist + bulk,
                look.sleeve,
                offset=0.2,
            )
            canvas.limb(
                figure.at(shoulder),
                figure.at(elbow),
                upper + bulk,
                middle + bulk,
                look.sleeve,
                offset=0.045,
            )
        elif person.sleeves == 'short':
            canvas.limb(
                figure.at(shoulder),
                figure.at(between(shoulder, elbow, 0.66)),
                upper + bulk + 0.003,
                middle + bulk + 0.007,
                look.sleeve,
                offset=0.045,
            )

    depth = figure.near(between(shoulder, elbow, 0.7))
    figure.parts.append(
        (depth if abs(depth) > 0.012 else 0.012 * (1 if figure.cos > 0 else -1), paint)
    )
