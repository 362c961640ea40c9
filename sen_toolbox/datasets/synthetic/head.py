"""Head of a figure: neck, collar, hair, face and hat."""

import numpy as np

from .canvas import Cloth
from .figure import Figure


def add_head(figure: Figure) -> None:
    """Adds the head and what surrounds the neck."""
    person, look, canvas = figure.person, figure.look, figure.canvas
    cos, sin = figure.cos, figure.sin
    middle = (0.0, 0.070, 0.010)
    skin, hair = look.skin, look.hair
    man = person.sex == 'man'
    rx, ry = (0.048, 0.064) if man else (0.046, 0.063)
    rx *= 1.0 + 0.12 * abs(sin)

    def paint_neck() -> None:
        canvas.limb(
            figure.at((0.0, 0.11, 0.0)),
            figure.at((0.0, 0.142, 0.0)),
            0.029,
            0.030,
            Cloth(skin * 0.88),
        )

    def paint_collar() -> None:
        if person.top in ('t-shirt', 'tank top', 'dress') and cos > 0:
            x, y = figure.at((0.0, 0.155, 0.03))
            reach = 0.020 if person.top == 't-shirt' else 0.034
            canvas.ellipse((x, y), 0.038, reach, skin * 0.95)
        elif person.top in ('shirt', 'jacket', 'coat', 'suit', 'vest', 'hoodie', 'sweater'):
            x, y = figure.at((0.0, 0.153, 0.01))
            canvas.ellipse((x, y), 0.046, 0.015, look.top.colour * 0.88)
            inner = look.torso.inner
            if inner is not None and cos > 0.2:
                canvas.ellipse((x + 0.02 * sin * canvas.scale, y), 0.030, 0.015, inner)
            elif person.top == 'shirt' and cos > 0.2:
                canvas.ellipse(
                    (x + 0.02 * sin * canvas.scale, y - 0.006 * canvas.scale),
                    0.020,
                    0.014,
                    skin * 0.92,
                )

    def paint_hood() -> None:
        x, y = figure.at((0.0, 0.162, -0.052))
        canvas.ellipse((x, y), figure.half(0.066, 0.04), 0.030, look.top.colour * 0.93)

    def paint() -> None:
        x, y = figure.at(middle)
        canvas.ellipse((x, y), rx, ry, skin)
        if person.hair != 'bald':
            _paint_hair(figure, x, y, rx, ry)
        elif man:
            canvas.ellipse(
                (x - 0.02 * sin * canvas.scale, y - 0.004 * canvas.scale),
                rx * 0.98,
                ry * 0.9,
                skin * 0.96,
            )
        _paint_face(figure, x, y, rx)
        _paint_hat(figure, x, y, rx, ry)

    def paint_long() -> None:
        low = 0.25 if person.hair == 'long' else 0.155
        x0, y0 = figure.at((0.0, 0.075, -0.018))
        x1, y1 = figure.at((0.0, low, -0.030))
        canvas.limb((x0, y0), (x1, y1), rx * 1.08, figure.half(0.042, 0.026), Cloth(hair * 0.95))

    def paint_tail() -> None:
        start, end = figure.at((0.0, 0.055, -0.058)), figure.at((0.0, 0.185, -0.078))
        canvas.limb(start, end, 0.017, 0.012, Cloth(hair))

    def paint_bun() -> None:
        canvas.ellipse(figure.at((0.0, 0.030, -0.052)), 0.025, 0.024, hair * 1.05)

    figure.parts.append((-0.01, paint_neck))
    figure.parts.append((0.02, paint_collar))
    figure.parts.append((0.05, paint))
    if person.top == 'hoodie' or (person.top == 'coat' and person.tint % 2):
        figure.parts.append((0.04 if cos < 0.3 else -0.04, paint_hood))
    behind = 0.045 if cos > 0 else 0.06
    if person.hair in ('long', 'medium'):
        figure.parts.append((behind if cos < 0.1 else -0.045, paint_long))
    elif person.hair == 'ponytail':
        figure.parts.append((behind if cos < 0.35 else -0.045, paint_tail))
    elif person.hair == 'bun':
        figure.parts.append((behind, paint_bun))


def _paint_hair(figure: Figure, x: float, y: float, rx: float, ry: float) -> None:
    """A cap of hair; then the face over it, as far as it is turned to the camera."""
    canvas, look, cos, sin = figure.canvas, figure.look, figure.cos, figure.sin
    scale = canvas.scale
    thick = 1.06 if figure.person.hair == 'short' else 1.12
    low = y + (ry * (0.45 if figure.person.hair == 'short' else 0.7)) * scale
    canvas.ellipse(
        (x - 0.006 * sin * scale, y - 0.006 * scale),
        rx * thick,
        ry * thick,
        look.hair,
        above=low,
    )
    if cos < -0.3:
        return
    wide = rx * float(np.clip(0.55 + 0.42 * cos, 0.25, 0.9))
    shift = (rx - wide * 0.9) * sin
    canvas.ellipse((x + shift * scale, y + 0.016 * scale), wide, ry * 0.82, look.skin)


def _paint_face(figure: Figure, x: float, y: float, rx: float) -> None:
    canvas, person, cos, sin = figure.canvas, figure.person, figure.cos, figure.sin
    if cos < -0.35:
        return
    scale = canvas.scale
    wide = rx * (0.68 if cos > 0.3 else 0.4)
    middle = x + (rx * 0.55 * sin) * scale
    if person.glasses == 'none':
        for end in (-0.6, 0.6):
            canvas.box(
                (middle + end * wide * scale, y + 0.002 * scale),
                wide * 0.3,
                0.005,
                figure.look.skin * 0.5,
            )
    else:
        dark, thin = {'glasses': (0.45, 0.006), 'sunglasses': (0.12, 0.009)}[person.glasses]
        canvas.box((middle, y + 0.002 * scale), wide, thin, figure.look.skin * dark)
    if cos > 0.2:
        canvas.box(
            (x + rx * 0.5 * sin * scale, y + 0.034 * scale), 0.012, 0.004, figure.look.skin * 0.78
        )


def _paint_hat(figure: Figure, x: float, y: float, rx: float, ry: float) -> None:
    canvas, hat, colour = figure.canvas, figure.person.hat, figure.look.hat
    scale = canvas.scale
    if hat == 'none':
        return
    if hat == 'beanie':
        canvas.ellipse(
            (x, y - 0.014 * scale), rx * 1.14, ry * 1.08, colour, above=y - 0.014 * scale
        )
        canvas.box((x, y - 0.018 * scale), rx * 1.14, 0.008, colour * 0.85)
    elif hat == 'cap':
        canvas.ellipse(
            (x, y - 0.012 * scale), rx * 1.10, ry * 1.02, colour, above=y - 0.020 * scale
        )
        brim = figure.at((0.0, 0.052, 0.058))
        if figure.cos > -0.6:
            canvas.ellipse(
                (brim[0], y - 0.018 * scale), figure.half(0.034, 0.030), 0.009, colour * 0.8
            )
    else:
        canvas.ellipse(
            (x, y - 0.020 * scale), rx * 1.05, ry * 0.95, colour, above=y - 0.022 * scale
        )
        canvas.ellipse((x, y - 0.022 * scale), 0.085, 0.016, colour * 0.92)
