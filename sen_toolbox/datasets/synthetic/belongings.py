"""What a figure has with it: its bag, and what it carries in the hand."""

import numpy as np

from .canvas import Cloth
from .figure import Figure, below, between


def add_bag(figure: Figure) -> None:
    """Adds the bag, if there is one."""
    person, look, canvas = figure.person, figure.look, figure.canvas
    kind = person.bag
    side = 1 if person.tint % 3 else -1
    if kind == 'backpack':
        back = (0.0, 0.295, -figure.depth - 0.035)

        def paint() -> None:
            x, y = figure.at(back)
            canvas.box((x, y), figure.half(0.074, 0.042), 0.105, look.bag, corner=0.03)
            canvas.box(
                (x, y + 0.045 * canvas.scale),
                figure.half(0.058, 0.044),
                0.042,
                look.bag * 0.84,
                corner=0.015,
            )

        figure.parts.append((figure.near(back), paint))
    elif kind == 'shoulder bag':
        spot = (side * -1 * (figure.hip + 0.062 * figure.width), 0.50, -0.01)

        def paint() -> None:
            canvas.box(figure.at(spot), figure.half(0.028, 0.070), 0.062, look.bag, corner=0.014)
            canvas.box(
                (figure.at(spot)[0], figure.at(spot)[1] - 0.022 * canvas.scale),
                figure.half(0.029, 0.070),
                0.008,
                look.bag * 0.75,
            )

        figure.parts.append((figure.near(spot) * 1.2, paint))
    elif kind == 'handbag':
        hand = figure.hands[0]
        spot = (hand[0] - 0.01, hand[1] + 0.095, hand[2])

        def paint() -> None:
            grip = figure.at(below(hand, 0.012))
            x, y = figure.at(spot)
            reach = figure.half(0.025, 0.060)
            for end in (-0.7, 0.7):
                canvas.limb(
                    grip,
                    (x + end * reach * canvas.scale, y),
                    0.005,
                    0.005,
                    Cloth(look.bag * 0.85),
                )
            canvas.box((x, y + 0.012 * canvas.scale), reach, 0.048, look.bag, corner=0.012)

        figure.parts.append((figure.near(hand) * 1.3 + 0.001, paint))
    elif kind == 'suitcase':
        spot = (-0.17, 0.84, -0.16)

        def paint() -> None:
            x, y = figure.at(spot)
            canvas.limb(
                figure.at(figure.hands[0]),
                (x, y - 0.1 * canvas.scale),
                0.005,
                0.005,
                Cloth(np.array((90, 90, 92), dtype=np.float32)),
            )
            canvas.box((x, y), figure.half(0.075, 0.048), 0.125, look.bag, corner=0.016)
            canvas.box((x, y), figure.half(0.055, 0.03), 0.10, look.bag * 0.88, corner=0.01)

        figure.parts.append((figure.near(spot), paint))


def add_carried(figure: Figure) -> None:
    """Adds what the hand carries, if anything."""
    person, canvas = figure.person, figure.canvas
    hand = figure.hands[1]
    kind = person.carried
    if kind == 'none':
        return

    def paint() -> None:
        x, y = figure.at(between(figure.elbows[1], hand, 1.15))
        scale = canvas.scale
        if kind == 'phone':
            canvas.box((x, y - 0.012 * scale), 0.012, 0.022, np.array((28, 28, 32.0)), turn=0.3)
        elif kind == 'papers':
            canvas.box(
                (x, y),
                figure.half(0.05, 0.035),
                0.034,
                np.array((226, 226, 222.0)),
                corner=0.002,
                turn=0.25,
            )
        elif kind == 'cup':
            canvas.box((x, y - 0.012 * scale), 0.014, 0.022, np.array((222, 214, 200.0)))
        elif kind == 'shopping bag':
            canvas.box(
                (x, y + 0.085 * scale),
                figure.half(0.030, 0.062),
                0.070,
                figure.look.carried,
                corner=0.008,
            )
        else:
            canvas.limb(
                (x, y),
                (x + 0.03 * scale, y + 0.28 * scale),
                0.015,
                0.006,
                Cloth(figure.look.carried),
            )

    figure.parts.append((figure.near(hand) * 1.3 + 0.002, paint))
