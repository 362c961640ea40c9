"""A person in a stance: where the joints are, and where a camera sees them."""

from collections.abc import Callable

import numpy as np

from .canvas import Canvas, Point
from .look import look_of
from .people import Person

# Sideways, down, forwards, in body heights.
Spot = tuple[float, float, float]
_WIDTHS = {'slim': 0.90, 'average': 1.0, 'heavy': 1.17}
#: What each upper garment adds to the body, in body heights.
_BULK = {
    't-shirt': 0.004,
    'shirt': 0.005,
    'sweater': 0.008,
    'hoodie': 0.013,
    'jacket': 0.015,
    'coat': 0.017,
    'vest': 0.010,
    'tank top': 0.0,
    'suit': 0.010,
    'dress': 0.001,
}


class Figure:
    """A person in a stance, and its ``parts``: how near each is to the camera, and what paints it.

    Positions are (sideways, down, forwards) in body heights, the crown of the head at down 0
    and the soles at down 1; forwards is where the person faces.

    Args:
        person: Who.
        rng: Decides the stance and the direction.
        canvas: What it will be painted on; its scale is the person's height.
        elevation: How steeply the camera looks down, 0 (level) to 0.5.
        left: Column of the body's axis in pixels.
        top: Row of the crown of the head in pixels.
    """

    def __init__(
        self,
        person: Person,
        rng: np.random.Generator,
        canvas: Canvas,
        *,
        elevation: float,
        left: float,
        top: float,
    ) -> None:
        self.person = person
        self.canvas = canvas
        self.look = look_of(person)
        self.elevation = elevation
        self.left, self.top = left, top
        self.yaw = self._direction(rng)
        self.cos, self.sin = float(np.cos(self.yaw)), float(np.sin(self.yaw))
        woman = person.sex == 'woman'
        self.width = _WIDTHS[person.build] * (0.92 if woman else 1.0)
        self.bulk = _BULK[person.top]
        self.shoulder = 0.112 * self.width
        self.hip = 0.050 * self.width * (1.08 if woman else 1.0)
        self.depth = 0.069 * (0.5 + 0.5 * self.width) * (1.1 if person.build == 'heavy' else 1.0)
        self.parts: list[tuple[float, Callable[[], None]]] = []
        self._stand(rng)

    @staticmethod
    def _direction(rng: np.random.Generator) -> float:
        """Radians by which the person is turned away from the camera; 0 is a front view."""
        main = rng.choice(
            (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4, np.pi), p=(0.27, 0.17, 0.18, 0.13, 0.25)
        )
        return float((main + rng.normal(0, 0.16)) * rng.choice((-1.0, 1.0)))

    def _stand(self, rng: np.random.Generator) -> None:
        walking = rng.random() < 0.7
        swing = (
            rng.uniform(0.12, 0.38) * rng.choice((-1.0, 1.0)) if walking else rng.normal(0, 0.04)
        )
        if self.person.bottom == 'long skirt':
            swing *= 0.6
        bend = abs(swing) * rng.uniform(0.5, 1.6)
        self.sway = rng.normal(0, 0.006)
        self.lean = rng.normal(0.016, 0.012) + 0.06 * abs(swing)
        self.knees, self.ankles, self.toes = [], [], []
        for side in (-1, 1):
            angle = side * swing
            knee_bend = bend if angle < 0 else rng.uniform(0, 0.12)
            spread = rng.uniform(0, 0.012) if walking else rng.uniform(0, 0.03)
            knee = (
                side * (self.hip + spread * 0.5),
                0.50 + 0.225 * np.cos(angle),
                0.225 * np.sin(angle),
            )
            lower = angle - knee_bend
            ankle = (
                side * (self.hip + spread),
                knee[1] + 0.228 * np.cos(lower),
                knee[2] + 0.228 * np.sin(lower),
            )
            tilt = 0.5 * knee_bend if angle < 0 else 0.0
            toe = (
                ankle[0] + side * 0.012,
                ankle[1] + 0.020 + 0.07 * np.sin(tilt),
                ankle[2] + 0.078 * np.cos(tilt),
            )
            self.knees.append(knee)
            self.ankles.append(ankle)
            self.toes.append(toe)
        self.elbows, self.hands = [], []
        busy = 1 if self.person.carried in ('phone', 'papers', 'cup') else None
        pose = rng.choice(('hang', 'hang', 'hang', 'pockets', 'bent'))
        for index, side in enumerate((-1, 1)):
            out = rng.uniform(0.02, 0.16)
            angle = -side * swing * rng.uniform(0.6, 1.1)
            fore = angle + rng.uniform(0.05, 0.45)
            inwards = 0.0
            if index == busy:
                angle, fore, inwards = rng.uniform(-0.1, 0.35), rng.uniform(1.6, 2.4), 0.3
            elif pose == 'bent' and rng.random() < 0.6:
                angle, fore, inwards = rng.uniform(-0.2, 0.3), rng.uniform(1.2, 1.8), 0.5
            elif pose == 'pockets':
                out, angle, fore, inwards = rng.uniform(0.2, 0.35), -0.25, 0.35, 0.35
            self.elbows.append(
                (
                    side * (self.shoulder - 0.008 + 0.15 * np.sin(out)),
                    0.198 + 0.155 * np.cos(angle) * np.cos(out),
                    0.155 * np.sin(angle),
                )
            )
            elbow = self.elbows[-1]
            self.hands.append(
                (
                    elbow[0] - side * inwards * 0.13,
                    elbow[1] + 0.145 * np.cos(fore),
                    elbow[2] + 0.145 * np.sin(fore),
                )
            )

    def at(self, spot: Spot) -> Point:
        """Where a position lies on the canvas, (x, y) in pixels."""
        side, down, forwards = spot
        side += self.sway * (1 - down)
        forwards += self.lean * (1 - down)
        across = side * self.cos + forwards * self.sin
        near = forwards * self.cos - side * self.sin
        # A camera that looks down sees near things lower and the upper body larger.
        down = down + self.elevation * (near * 0.8 + 0.16 * down * (1 - down))
        scale = self.canvas.scale
        return float(self.left + across * scale), float(self.top + down * scale)

    def near(self, spot: Spot) -> float:
        """How much nearer to the camera than the body's axis a position is."""
        return spot[2] * self.cos - spot[0] * self.sin

    def half(self, sideways: float, forwards: float) -> float:
        """Half of the width that an elliptic cross section shows."""
        return float(np.hypot(sideways * self.cos, forwards * self.sin))


def between(start: Spot, end: Spot, share: float) -> Spot:
    """What lies at a share of the way between two positions."""
    side, down, forwards = (a + share * (b - a) for a, b in zip(start, end, strict=True))
    return side, down, forwards


def below(spot: Spot, amount: float) -> Spot:
    """What lies below a position."""
    return spot[0], spot[1] + amount, spot[2]
