"""Soft-edged, shaded shapes on a float image: what the drawn people are made of."""

import math
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]


@dataclass(frozen=True)
class Cloth:
    """The surface of a shape: its colours and where on it they lie.

    Lengths are in body heights, angles in radians around the body with 0 at its front.

    Args:
        colour: RGB of the ground.
        second: RGB of the pattern, when there is one.
        pattern: A pattern of `people.Person`.
        period: Length of one stripe pair.
        inner: RGB of what shows through an opened front, or None when it is closed.
        opening: Half angle of the opening.
        tie: RGB of a tie in the opening, or None; an opening with one closes downwards.
        line: Whether a closed front has a visible zip or row of buttons.
        straps: RGB of a backpack's straps, or None.
        belt: RGB of the strap of a shoulder bag, or None.
    """

    colour: np.ndarray
    second: np.ndarray | None = None
    pattern: str = 'plain'
    period: float = 0.045
    inner: np.ndarray | None = None
    opening: float = 0.4
    tie: np.ndarray | None = None
    line: bool = False
    straps: np.ndarray | None = None
    belt: np.ndarray | None = None

    def paint(self, angle: np.ndarray, along: np.ndarray, girth: float) -> np.ndarray:
        """Colours of the surface at angles and lengths that broadcast to (rows, columns).

        Args:
            angle: Around the shape.
            along: Length from the upper end of the shape.
            girth: Radius of the shape, which turns angles into lengths.
        """
        pixels = np.broadcast_to(self.colour, (*np.broadcast_shapes(angle.shape, along.shape), 3))
        if self.second is not None:
            amount = self._pattern_amount(angle, along, girth)
            pixels = pixels + amount[..., None] * (self.second - self.colour)
        return pixels

    def paint_front(
        self, pixels: np.ndarray, angle: np.ndarray, along: np.ndarray, length: float
    ) -> np.ndarray:
        """Add what only a torso has: the opening, the zip, the straps and the logo."""
        if self.pattern == 'logo' and self.second is not None:
            mark = (np.abs(angle) < 0.62) & (np.abs(along - 0.105) < 0.036)
            pixels = np.where(mark[..., None], self.second, pixels)
        if self.inner is not None:
            share = along / length
            narrowing = 1.15 - 0.5 * share if self.tie is None else 1.3 - 2.1 * share
            pixels = np.where(
                (np.abs(angle) < self.opening * narrowing)[..., None], self.inner, pixels
            )
            if self.tie is not None:
                knot = (np.abs(angle) < 0.11 + 0.1 * share) & (share < 0.57)
                pixels = np.where(knot[..., None], self.tie, pixels)
        elif self.line:
            pixels = np.where((np.abs(angle) < 0.07)[..., None], pixels * 0.72, pixels)
        if self.straps is not None:
            strap = (np.abs(np.abs(angle) - 0.66) < 0.13) & (along < 0.2)
            pixels = np.where(strap[..., None], self.straps, pixels)
        if self.belt is not None:
            course = np.where(np.abs(angle) < np.pi / 2, angle, np.sign(angle) * np.pi - angle)
            strap = np.abs(course - 0.7 + 6.5 * along) < 0.15
            pixels = np.where(strap[..., None], self.belt, pixels)
        return pixels

    def _pattern_amount(self, angle: np.ndarray, along: np.ndarray, girth: float) -> np.ndarray:
        shape = np.broadcast_shapes(angle.shape, along.shape)
        across_angle = angle * (0.8 * girth / self.period)
        across = (across_angle - np.floor(across_angle) < 0.4).astype(np.float32)
        rows = (along / self.period) % 1 < 0.45
        if self.pattern == 'horizontal stripes':
            return np.broadcast_to(rows, shape).astype(np.float32)
        if self.pattern == 'vertical stripes':
            return np.broadcast_to(across, shape)
        if self.pattern == 'checks':
            return 0.5 * np.broadcast_to(rows, shape) + 0.5 * across
        if self.pattern == 'two-tone':
            return np.broadcast_to(along < 0.115, shape).astype(np.float32)
        return np.zeros(shape, dtype=np.float32)


class Canvas:
    """A float RGB image on which shapes are laid over each other, later ones on top.

    Args:
        pixels: (rows, columns, 3) float32 image, 0 to 255, changed in place.
        folds: (rows, columns) factors near 1 that crease every shape.
        light: Where the light comes from, -1 (left) to 1 (right).
        scale: Pixels per body height.
    """

    def __init__(
        self, *, pixels: np.ndarray, folds: np.ndarray, light: float, scale: float
    ) -> None:
        self.pixels = pixels
        self.folds = folds
        self.light = light
        self.scale = scale
        self._rows = np.arange(pixels.shape[0], dtype=np.float32)[:, None] + 0.5
        self._columns = np.arange(pixels.shape[1], dtype=np.float32)[None, :] + 0.5

    def limb(
        self,
        start: Point,
        end: Point,
        start_radius: float,
        end_radius: float,
        cloth: Cloth,
        *,
        offset: float = 0.0,
    ) -> None:
        """A tapered rod with round ends; points in pixels, radii in body heights.

        Args:
            start: (x, y) of the upper end.
            end: (x, y) of the lower end.
            start_radius: Radius there.
            end_radius: Radius there.
            cloth: Its surface.
            offset: Length already covered by the limb above it, so that stripes go on.
        """
        first, last = start_radius * self.scale, end_radius * self.scale
        window = self._window(
            min(start[0] - first, end[0] - last),
            max(start[0] + first, end[0] + last),
            min(start[1] - first, end[1] - last),
            max(start[1] + first, end[1] + last),
        )
        if window is None:
            return
        where, x, y = window
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = max(math.hypot(dx, dy), 1e-3)
        dx, dy = dx / length, dy / length
        x, y = x - start[0], y - start[1]
        along = x * dx + y * dy
        across = x * dy - y * dx
        step = np.clip(along / length, 0, 1)
        radius = first + step * (last - first)
        over = along - step * length
        alpha = np.clip(0.5 + radius - np.sqrt(across * across + over * over), 0, 1)
        side = np.clip(across / radius, -1, 1)
        shade = 1.05 - 0.30 * side * side + 0.12 * self.light * side * dy
        if cloth.second is None:
            colour = cloth.colour
        else:
            colour = cloth.paint(side * 1.3, along / self.scale + offset, start_radius)
        self._lay(where, alpha, colour, shade)

    def shell(
        self, heights: np.ndarray, centres: np.ndarray, halves: np.ndarray, yaw: float, cloth: Cloth
    ) -> None:
        """A round body seen from the side, such as a torso or a skirt.

        Args:
            heights: (K,) rows of the profile's knots in pixels, increasing.
            centres: (K,) columns of its axis there.
            halves: (K,) half widths there, pixels.
            yaw: By how much its front is turned away from the viewer, radians.
            cloth: Its surface.
        """
        window = self._window(
            (centres - halves).min(), (centres + halves).max(), heights[0], heights[-1]
        )
        if window is None:
            return
        where, x, y = window
        centre = np.interp(y[:, 0], heights, centres)[:, None].astype(np.float32)
        half = np.interp(y[:, 0], heights, halves)[:, None].astype(np.float32)
        top, bottom = float(heights[0]), float(heights[-1])
        side = (x - centre) / np.maximum(half, 1)
        alpha = np.clip(0.5 + half - np.abs(x - centre), 0, 1)
        alpha = alpha * np.clip(0.5 + np.minimum(y - top, bottom - y), 0, 1)
        side = np.clip(side, -1, 1)
        angle = np.arcsin(side) - yaw
        angle = angle - 2 * math.pi * np.round(angle / (2 * math.pi))
        along = (y - top) / self.scale
        colour = cloth.paint(angle, along, float(halves.max()) / self.scale)
        colour = cloth.paint_front(colour, angle, along, (bottom - top) / self.scale)
        self._lay(where, alpha, colour, 1.05 - 0.26 * side**2 + 0.10 * self.light * side)

    def ellipse(
        self,
        centre: Point,
        half_width: float,
        half_height: float,
        colour: np.ndarray,
        *,
        above: float = np.inf,
    ) -> None:
        """A shaded ellipse; half sizes in body heights, cut off below the row `above`."""
        rx, ry = max(half_width * self.scale, 0.5), max(half_height * self.scale, 0.5)
        window = self._window(centre[0] - rx, centre[0] + rx, centre[1] - ry, centre[1] + ry)
        if window is None:
            return
        where, x, y = window
        u, v = (x - centre[0]) / rx, (y - centre[1]) / ry
        distance = np.sqrt(u * u + v * v)
        alpha = np.clip(0.5 + (1 - distance) * min(rx, ry), 0, 1)
        if above < np.inf:
            alpha = alpha * np.clip(0.5 + above - y, 0, 1)
        self._lay(where, alpha, colour, 1.05 - 0.22 * u * u + 0.10 * self.light * u)

    def shadow(self, centre: Point, half_width: float, half_height: float, strength: float) -> None:
        """Darken an ellipse, by `strength` (0 to 1) in its middle and not at all at its edge."""
        rx, ry = half_width * self.scale, half_height * self.scale
        window = self._window(centre[0] - rx, centre[0] + rx, centre[1] - ry, centre[1] + ry)
        if window is None:
            return
        where, x, y = window
        u, v = (x - centre[0]) / rx, (y - centre[1]) / ry
        self.pixels[where] *= (1 - strength * np.clip(1 - u * u - v * v, 0, 1))[..., None]

    def box(
        self,
        centre: Point,
        half_width: float,
        half_height: float,
        colour: np.ndarray,
        *,
        corner: float = 0.01,
        turn: float = 0.0,
    ) -> None:
        """A rounded box; sizes in body heights, turned by `turn` radians."""
        half_x, half_y, corner = (size * self.scale for size in (half_width, half_height, corner))
        corner = min(corner, half_x, half_y)
        cos, sin = math.cos(turn), math.sin(turn)
        reach_x = abs(cos) * half_x + abs(sin) * half_y
        reach_y = abs(sin) * half_x + abs(cos) * half_y
        window = self._window(
            centre[0] - reach_x, centre[0] + reach_x, centre[1] - reach_y, centre[1] + reach_y
        )
        if window is None:
            return
        where, x, y = window
        x, y = x - centre[0], y - centre[1]
        u = x * cos + y * sin
        v = y * cos - x * sin
        du = np.maximum(np.abs(u) - half_x + corner, 0)
        dv = np.maximum(np.abs(v) - half_y + corner, 0)
        alpha = np.clip(0.5 + corner - np.sqrt(du * du + dv * dv), 0, 1)
        shade = 1.04 - 0.12 * (v / max(half_y, 1)) + 0.08 * self.light * u / max(half_x, 1)
        self._lay(where, alpha, colour, shade)

    def _window(
        self, left: float, right: float, top: float, bottom: float
    ) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray] | None:
        rows, columns = self.pixels.shape[:2]
        x0, x1 = max(int(left) - 1, 0), min(int(right) + 2, columns)
        y0, y1 = max(int(top) - 1, 0), min(int(bottom) + 2, rows)
        if x0 >= x1 or y0 >= y1:
            return None
        return (slice(y0, y1), slice(x0, x1)), self._columns[:, x0:x1], self._rows[y0:y1]

    def _lay(
        self, where: tuple[slice, slice], alpha: np.ndarray, colour: np.ndarray, shade: np.ndarray
    ) -> None:
        under = self.pixels[where]
        value = colour * (shade * self.folds[where])[..., None]
        under += alpha[..., None] * (value - under)
