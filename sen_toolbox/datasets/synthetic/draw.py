"""Draw one view of a person: a jointed figure, turned and projected, dressed and photographed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .canvas import Canvas, Cloth, Point
from .people import COLOURS, HAIR_COLOURS, SKINS, Person
from .scene import CAMERAS, Camera, expose, paint_background, paint_occluder

Spot = tuple[float, float, float]
OVERSAMPLING = 2
_WIDTHS = {'slim': 0.90, 'average': 1.0, 'heavy': 1.17}
#: How far down each upper garment reaches, and how much it adds to the body (body heights).
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


@dataclass(frozen=True)
class _Look:
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


def draw_person(
    person: Person,
    view_rng: np.random.Generator,
    image_size: tuple[int, int] = (128, 64),
    *,
    camera: int | None = None,
) -> np.ndarray:
    """Draw one photograph of a person.

    Args:
        person: Who.
        view_rng: Decides the stance, the direction, the crop, the light and the background.
        image_size: (rows, columns) of the image.
        camera: Index into `scene.CAMERAS`; by default drawn as well.

    Returns:
        (rows, columns, 3) uint8 RGB image.
    """
    rng = view_rng
    drawn = int(rng.integers(len(CAMERAS)))
    place = CAMERAS[drawn if camera is None else camera]
    # Detections are cut out at many shapes, then squeezed into one: people come out wide or thin.
    rows = image_size[0] * OVERSAMPLING
    columns = round(rows / 2 * rng.uniform(0.78, 1.12))
    pixels = paint_background(place, rng, (rows, columns))
    scale = rows * float(np.clip(rng.normal(0.90, 0.045), 0.74, 1.06))
    canvas = Canvas(
        pixels=pixels, folds=crease(rng, rows, columns), light=rng.uniform(-1, 1), scale=scale
    )
    slack = rows - scale
    paint_person(
        person,
        rng,
        canvas,
        elevation=place.elevation * rng.uniform(0.6, 1.3),
        left=columns * (0.5 + float(np.clip(rng.normal(0, 0.05), -0.12, 0.12))),
        top=slack * rng.uniform(0.25, 0.75) if slack > 0 else slack * 0.3,
    )
    if rng.random() < 0.14:
        paint_occluder(canvas, rng)
    return photograph(canvas.pixels, place, rng, image_size)


def paint_person(
    person: Person,
    rng: np.random.Generator,
    canvas: Canvas,
    *,
    elevation: float,
    left: float,
    top: float,
) -> None:
    """Paint a person in some stance on a canvas.

    Args:
        person: Who.
        rng: Decides the stance and the direction.
        canvas: Is painted on; its scale is the person's height.
        elevation: How steeply the camera looks down, 0 (level) to 0.5.
        left: Column of the body's axis in pixels.
        top: Row of the crown of the head in pixels.
    """
    _Figure(person, rng, canvas, elevation=elevation, left=left, top=top).draw()


def photograph(
    pixels: np.ndarray, place: Camera, rng: np.random.Generator, image_size: tuple[int, int]
) -> np.ndarray:
    """What a camera makes of a canvas: resolution, focus, light, noise, and either side left.

    Args:
        pixels: (rows, columns, 3) float32, 0 to 255.
        place: The camera.
        rng: Decides all of it.
        image_size: (rows, columns) of the photograph.

    Returns:
        (rows, columns, 3) uint8 RGB image.
    """
    height, width = image_size
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    image = image.resize((width, height), Image.Resampling.BOX)
    if rng.random() < 0.3:
        shrink = rng.uniform(0.45, 0.8)
        image = image.resize(
            (max(round(width * shrink), 8), max(round(height * shrink), 16)),
            Image.Resampling.BILINEAR,
        )
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    blur = rng.uniform(*place.sharpness) * height / 128
    if rng.random() < 0.35:  # many surveillance cameras sharpen what they record
        image = image.filter(
            ImageFilter.UnsharpMask(1.3 * height / 128, int(rng.integers(30, 110)), 0)
        )
    elif blur > 0.25:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    value = expose(np.asarray(image, dtype=np.float32), place, rng)
    value = np.clip(value, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(value[:, ::-1]) if rng.random() < 0.5 else value


def crease(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Creases of the cloth: two octaves of smooth noise, longer upwards than sideways."""
    total = np.ones((rows, columns), dtype=np.float32)
    for size, strength in (((11, 8), 0.07), ((28, 21), 0.055)):
        noise = Image.fromarray(rng.standard_normal(size, dtype=np.float32) * strength)
        total += np.asarray(noise.resize((columns, rows), Image.Resampling.BICUBIC))
    return total


def _look(person: Person) -> _Look:
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
    return _Look(
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


class _Figure:
    """A person in a stance: places the joints, then paints the parts from back to front.

    Positions are (sideways, down, forwards) in body heights, the crown of the head at down 0
    and the soles at down 1; forwards is where the person faces.
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
        self.look = _look(person)
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

    def draw(self) -> None:
        """Paint everything, from back to front."""
        self._shadow()
        for side in (0, 1):
            self._add_leg(side)
            self._add_arm(side)
        self._add_torso()
        self._add_head()
        self._add_bag()
        self._add_carried()
        for _, paint in sorted(self.parts, key=lambda part: part[0]):
            paint()

    def _shadow(self) -> None:
        self.canvas.shadow(self.at((0.0, 0.985, 0.0)), 0.19, 0.045, 0.45)

    def _add_leg(self, side: int) -> None:
        person, look, canvas = self.person, self.look, self.canvas
        hip = ((-1, 1)[side] * self.hip, 0.495, 0.0)
        knee, ankle, toe = self.knees[side], self.ankles[side], self.toes[side]
        kind = person.bottom
        wide = self.width
        slim = kind in ('leggings', 'tights', 'bare legs')
        thigh, shin, hem = (0.050, 0.034, 0.021) if slim else (0.053, 0.040, 0.034)
        if kind == 'sweatpants':
            thigh, shin, hem = 0.057, 0.047, 0.036
        elif kind == 'jeans' and person.sex == 'woman':
            shin, hem = 0.037, 0.027
        bare = kind in ('shorts', 'skirt', 'long skirt')
        skin = Cloth(look.skin)

        def paint() -> None:
            foot = self.at(ankle)
            if bare:
                canvas.limb(self.at(hip), self.at(knee), 0.046 * wide, 0.033 * wide, skin)
                canvas.limb(self.at(knee), foot, 0.034 * wide, 0.020, skin)
            self._paint_shoe(ankle, toe)
            if not bare:
                low = _between(knee, ankle, 0.97)
                canvas.limb(self.at(hip), self.at(knee), thigh * wide, shin * wide, look.bottom)
                canvas.limb(self.at(knee), self.at(low), shin * wide, hem * wide, look.bottom)
            if kind == 'jeans':
                worn = Cloth(look.bottom.colour * 1.16)
                canvas.limb(
                    self.at(_between(hip, knee, 0.35)),
                    self.at(_between(hip, knee, 0.85)),
                    thigh * 0.55 * wide,
                    shin * 0.5 * wide,
                    worn,
                )
            if person.shoes == 'boots' and (slim or bare):
                canvas.limb(self.at(_between(knee, ankle, 0.45)), foot, 0.034, 0.027, look.shoes)
            if kind == 'shorts':
                canvas.limb(
                    self.at(hip),
                    self.at(_between(hip, knee, 0.86)),
                    0.056 * wide,
                    0.050 * wide,
                    look.bottom,
                )

        self.parts.append((-0.5 + self.near(_between(hip, ankle, 0.6)), paint))

    def _paint_shoe(self, ankle: Spot, toe: Spot) -> None:
        shoes, canvas, look = self.person.shoes, self.canvas, self.look
        heel = (ankle[0], ankle[1] + 0.022, ankle[2] - 0.015)
        if shoes == 'sandals':
            canvas.limb(self.at(heel), self.at(toe), 0.018, 0.017, Cloth(look.skin))
            canvas.limb(self.at(heel), self.at(_between(heel, toe, 0.4)), 0.019, 0.016, look.shoes)
            return
        if shoes == 'high heels':
            canvas.limb(self.at(heel), self.at(toe), 0.015, 0.014, look.shoes)
            return
        if shoes == 'sneakers':
            sole = Cloth(np.array((205, 205, 203), dtype=np.float32))
            canvas.limb(
                self.at(_lower(heel, 0.006)), self.at(_lower(toe, 0.006)), 0.022, 0.020, sole
            )
        thick = 0.026 if shoes == 'boots' else 0.020 if shoes == 'flats' else 0.023
        if shoes == 'boots':
            canvas.limb(self.at(_lower(ankle, -0.02)), self.at(heel), 0.027, 0.026, look.shoes)
        canvas.limb(self.at(heel), self.at(toe), thick, thick * 0.86, look.shoes)

    def _add_torso(self) -> None:
        person, look = self.person, self.look
        bulk, wide = self.bulk, self.width
        hem = _HEMS[person.top]
        flare = {'dress': 0.045, 'coat': 0.020}.get(person.top, 0.004)
        waist = 0.083 if person.sex == 'woman' else 0.094
        hips = self.hip + 0.050 * wide
        if person.build == 'heavy':
            waist += 0.012
        chest = self.shoulder - 0.006
        knots = [
            (0.148, 0.036, 0.036),
            (0.158, 0.058 * wide, 0.044),
            (0.172, 0.092 * wide, 0.052),
            (0.192, chest, 0.060),
            (0.25, chest - 0.006, self.depth + 0.006),
            (0.36, waist * wide, self.depth),
            (0.47, hips, self.depth + 0.006),
            (0.52, hips, self.depth + 0.008),
        ]
        if hem > 0.57:
            knots.append((hem, hips + flare, self.depth + 0.008 + flare))

        def paint_bottom() -> None:
            if person.bottom in ('skirt', 'long skirt'):
                low = 0.70 if person.bottom == 'skirt' else 0.88
                self._shell(
                    [
                        (0.44, waist * wide, self.depth),
                        (0.50, hips, self.depth + 0.008),
                        (low, hips + 0.028, self.depth + 0.030),
                    ],
                    low,
                    look.bottom,
                    0.004,
                )
            elif person.bottom not in ('bare legs', 'tights'):
                self._shell(
                    [
                        (0.45, waist * wide, self.depth - 0.004),
                        (0.50, hips, self.depth),
                        (0.545, hips - 0.01, self.depth - 0.01),
                    ],
                    0.545,
                    look.bottom,
                    0.002,
                )

        def paint() -> None:
            inner = look.torso.inner
            if person.top in ('vest', 'jacket', 'coat') and inner is not None:
                self._shell(knots, 0.535, Cloth(inner), 0.004)
            self._shell(knots, hem, look.torso, bulk)

        self.parts.append((-0.1, paint_bottom))
        self.parts.append((0.0, paint))

    def _shell(
        self, knots: list[tuple[float, float, float]], hem: float, cloth: Cloth, bulk: float
    ) -> None:
        heights = [knot[0] for knot in knots]
        downs = [down for down in heights if down < hem - 0.004] + [hem]
        halves, centres, rows = [], [], []
        for down in downs:
            sideways = float(np.interp(down, heights, [knot[1] for knot in knots]))
            forwards = float(np.interp(down, heights, [knot[2] for knot in knots]))
            halves.append((self.half(sideways, forwards) + bulk) * self.canvas.scale)
            x, y = self.at((0.0, down, 0.0))
            centres.append(x)
            rows.append(y)
        self.canvas.shell(np.array(rows), np.array(centres), np.array(halves), self.yaw, cloth)

    def _add_arm(self, side: int) -> None:
        person, look, canvas = self.person, self.look, self.canvas
        sign = (-1, 1)[side]
        shoulder = (sign * (self.shoulder - 0.027), 0.205, 0.0)
        elbow, hand = self.elbows[side], self.hands[side]
        thick = self.width * (0.92 if person.sex == 'woman' else 1.0)
        upper, middle, wrist = 0.033 * thick, 0.027 * thick, 0.019 * thick
        skin = Cloth(look.skin)
        bulk = self.bulk * (0.4 if person.top == 'vest' else 0.75)

        def paint() -> None:
            canvas.ellipse(self.at(_between(elbow, hand, 1.10)), 0.019, 0.024, look.skin)
            if person.sleeves != 'long':
                canvas.limb(self.at(shoulder), self.at(elbow), upper, middle, skin)
                canvas.limb(self.at(elbow), self.at(hand), middle, wrist, skin)
            if person.sleeves == 'long':
                canvas.limb(
                    self.at(elbow),
                    self.at(_between(elbow, hand, 0.97)),
                    middle + bulk,
                    wrist + bulk,
                    look.sleeve,
                    offset=0.2,
                )
                canvas.limb(
                    self.at(shoulder),
                    self.at(elbow),
                    upper + bulk,
                    middle + bulk,
                    look.sleeve,
                    offset=0.045,
                )
            elif person.sleeves == 'short':
                canvas.limb(
                    self.at(shoulder),
                    self.at(_between(shoulder, elbow, 0.66)),
                    upper + bulk + 0.003,
                    middle + bulk + 0.007,
                    look.sleeve,
                    offset=0.045,
                )

        depth = self.near(_between(shoulder, elbow, 0.7))
        self.parts.append(
            (depth if abs(depth) > 0.012 else 0.012 * (1 if self.cos > 0 else -1), paint)
        )

    def _add_head(self) -> None:
        person, look, canvas = self.person, self.look, self.canvas
        cos, sin = self.cos, self.sin
        middle = (0.0, 0.070, 0.010)
        skin, hair = look.skin, look.hair
        man = person.sex == 'man'
        rx, ry = (0.048, 0.064) if man else (0.046, 0.063)
        rx *= 1.0 + 0.12 * abs(sin)

        def paint_neck() -> None:
            canvas.limb(
                self.at((0.0, 0.11, 0.0)),
                self.at((0.0, 0.142, 0.0)),
                0.029,
                0.030,
                Cloth(skin * 0.88),
            )

        def paint_collar() -> None:
            if person.top in ('t-shirt', 'tank top', 'dress') and cos > 0:
                x, y = self.at((0.0, 0.155, 0.03))
                reach = 0.020 if person.top == 't-shirt' else 0.034
                canvas.ellipse((x, y), 0.038, reach, skin * 0.95)
            elif person.top in ('shirt', 'jacket', 'coat', 'suit', 'vest', 'hoodie', 'sweater'):
                x, y = self.at((0.0, 0.153, 0.01))
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
            x, y = self.at((0.0, 0.162, -0.052))
            canvas.ellipse((x, y), self.half(0.066, 0.04), 0.030, look.top.colour * 0.93)

        def paint() -> None:
            x, y = self.at(middle)
            canvas.ellipse((x, y), rx, ry, skin)
            if person.hair != 'bald':
                self._paint_hair(x, y, rx, ry)
            elif man:
                canvas.ellipse(
                    (x - 0.02 * sin * canvas.scale, y - 0.004 * canvas.scale),
                    rx * 0.98,
                    ry * 0.9,
                    skin * 0.96,
                )
            self._paint_face(x, y, rx)
            self._paint_hat(x, y, rx, ry)

        def paint_long() -> None:
            low = 0.25 if person.hair == 'long' else 0.155
            x0, y0 = self.at((0.0, 0.075, -0.018))
            x1, y1 = self.at((0.0, low, -0.030))
            canvas.limb((x0, y0), (x1, y1), rx * 1.08, self.half(0.042, 0.026), Cloth(hair * 0.95))

        def paint_tail() -> None:
            start, end = self.at((0.0, 0.055, -0.058)), self.at((0.0, 0.185, -0.078))
            canvas.limb(start, end, 0.017, 0.012, Cloth(hair))

        def paint_bun() -> None:
            canvas.ellipse(self.at((0.0, 0.030, -0.052)), 0.025, 0.024, hair * 1.05)

        self.parts.append((-0.01, paint_neck))
        self.parts.append((0.02, paint_collar))
        self.parts.append((0.05, paint))
        if person.top == 'hoodie' or (person.top == 'coat' and person.tint % 2):
            self.parts.append((0.04 if cos < 0.3 else -0.04, paint_hood))
        behind = 0.045 if cos > 0 else 0.06
        if person.hair in ('long', 'medium'):
            self.parts.append((behind if cos < 0.1 else -0.045, paint_long))
        elif person.hair == 'ponytail':
            self.parts.append((behind if cos < 0.35 else -0.045, paint_tail))
        elif person.hair == 'bun':
            self.parts.append((behind, paint_bun))

    def _paint_hair(self, x: float, y: float, rx: float, ry: float) -> None:
        """A cap of hair; then the face over it, as far as it is turned to the camera."""
        canvas, look, cos, sin = self.canvas, self.look, self.cos, self.sin
        scale = canvas.scale
        thick = 1.06 if self.person.hair == 'short' else 1.12
        low = y + (ry * (0.45 if self.person.hair == 'short' else 0.7)) * scale
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

    def _paint_face(self, x: float, y: float, rx: float) -> None:
        canvas, person, cos, sin = self.canvas, self.person, self.cos, self.sin
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
                    self.look.skin * 0.5,
                )
        else:
            dark, thin = {'glasses': (0.45, 0.006), 'sunglasses': (0.12, 0.009)}[person.glasses]
            canvas.box((middle, y + 0.002 * scale), wide, thin, self.look.skin * dark)
        if cos > 0.2:
            canvas.box(
                (x + rx * 0.5 * sin * scale, y + 0.034 * scale), 0.012, 0.004, self.look.skin * 0.78
            )

    def _paint_hat(self, x: float, y: float, rx: float, ry: float) -> None:
        canvas, hat, colour = self.canvas, self.person.hat, self.look.hat
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
            brim = self.at((0.0, 0.052, 0.058))
            if self.cos > -0.6:
                canvas.ellipse(
                    (brim[0], y - 0.018 * scale), self.half(0.034, 0.030), 0.009, colour * 0.8
                )
        else:
            canvas.ellipse(
                (x, y - 0.020 * scale), rx * 1.05, ry * 0.95, colour, above=y - 0.022 * scale
            )
            canvas.ellipse((x, y - 0.022 * scale), 0.085, 0.016, colour * 0.92)

    def _add_bag(self) -> None:
        person, look, canvas = self.person, self.look, self.canvas
        kind = person.bag
        side = 1 if person.tint % 3 else -1
        if kind == 'backpack':
            back = (0.0, 0.295, -self.depth - 0.035)

            def paint() -> None:
                x, y = self.at(back)
                canvas.box((x, y), self.half(0.074, 0.042), 0.105, look.bag, corner=0.03)
                canvas.box(
                    (x, y + 0.045 * canvas.scale),
                    self.half(0.058, 0.044),
                    0.042,
                    look.bag * 0.84,
                    corner=0.015,
                )

            self.parts.append((self.near(back), paint))
        elif kind == 'shoulder bag':
            spot = (side * -1 * (self.hip + 0.062 * self.width), 0.50, -0.01)

            def paint() -> None:
                canvas.box(self.at(spot), self.half(0.028, 0.070), 0.062, look.bag, corner=0.014)
                canvas.box(
                    (self.at(spot)[0], self.at(spot)[1] - 0.022 * canvas.scale),
                    self.half(0.029, 0.070),
                    0.008,
                    look.bag * 0.75,
                )

            self.parts.append((self.near(spot) * 1.2, paint))
        elif kind == 'handbag':
            hand = self.hands[0]
            spot = (hand[0] - 0.01, hand[1] + 0.095, hand[2])

            def paint() -> None:
                grip = self.at(_lower(hand, 0.012))
                x, y = self.at(spot)
                reach = self.half(0.025, 0.060)
                for end in (-0.7, 0.7):
                    canvas.limb(
                        grip,
                        (x + end * reach * canvas.scale, y),
                        0.005,
                        0.005,
                        Cloth(look.bag * 0.85),
                    )
                canvas.box((x, y + 0.012 * canvas.scale), reach, 0.048, look.bag, corner=0.012)

            self.parts.append((self.near(hand) * 1.3 + 0.001, paint))
        elif kind == 'suitcase':
            spot = (-0.17, 0.84, -0.16)

            def paint() -> None:
                x, y = self.at(spot)
                canvas.limb(
                    self.at(self.hands[0]),
                    (x, y - 0.1 * canvas.scale),
                    0.005,
                    0.005,
                    Cloth(np.array((90, 90, 92), dtype=np.float32)),
                )
                canvas.box((x, y), self.half(0.075, 0.048), 0.125, look.bag, corner=0.016)
                canvas.box((x, y), self.half(0.055, 0.03), 0.10, look.bag * 0.88, corner=0.01)

            self.parts.append((self.near(spot), paint))

    def _add_carried(self) -> None:
        person, canvas = self.person, self.canvas
        hand = self.hands[1]
        kind = person.carried
        if kind == 'none':
            return

        def paint() -> None:
            x, y = self.at(_between(self.elbows[1], hand, 1.15))
            scale = canvas.scale
            if kind == 'phone':
                canvas.box((x, y - 0.012 * scale), 0.012, 0.022, np.array((28, 28, 32.0)), turn=0.3)
            elif kind == 'papers':
                canvas.box(
                    (x, y),
                    self.half(0.05, 0.035),
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
                    self.half(0.030, 0.062),
                    0.070,
                    self.look.carried,
                    corner=0.008,
                )
            else:
                canvas.limb(
                    (x, y),
                    (x + 0.03 * scale, y + 0.28 * scale),
                    0.015,
                    0.006,
                    Cloth(self.look.carried),
                )

        self.parts.append((self.near(hand) * 1.3 + 0.002, paint))


def _between(start: Spot, end: Spot, share: float) -> Spot:
    side, down, forwards = (a + share * (b - a) for a, b in zip(start, end, strict=True))
    return side, down, forwards


def _lower(spot: Spot, amount: float) -> Spot:
    return spot[0], spot[1] + amount, spot[2]
