"""Where the drawn pedestrians walk: five cameras, each with its scene, light and colour cast."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .canvas import Canvas, Cloth
from .people import COLOURS

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Camera:
    """One camera and what stands in front of it.

    Args:
        name: Folder of its images.
        ground: RGB of the ground.
        back: RGB of what stands behind.
        horizon: Range of the row where they meet, in image heights; negative: ground only.
        clutter: Colours of the things behind.
        marks: Colour of the lines on the ground.
        cast: RGB factors of its colour balance.
        elevation: How steeply it looks down, 0 (level) to 0.5.
        sharpness: Range of the blur radius, pixels of a 128-row image.
    """

    name: str
    ground: Colour
    back: Colour
    horizon: tuple[float, float]
    clutter: tuple[Colour, ...]
    marks: Colour
    cast: tuple[float, float, float]
    elevation: float
    sharpness: tuple[float, float]


CAMERAS = (
    Camera(
        'cam_a',
        (150, 149, 146),
        (132, 128, 122),
        (0.12, 0.5),
        ((96, 98, 104), (70, 72, 76), (164, 158, 150), (120, 84, 70), (190, 190, 192)),
        (182, 178, 150),
        (1.0, 1.0, 1.0),
        0.20,
        (0.1, 0.6),
    ),
    Camera(
        'cam_b',
        (172, 166, 156),
        (196, 192, 184),
        (0.35, 0.75),
        ((88, 78, 70), (216, 214, 208), (128, 134, 140), (60, 60, 64), (170, 140, 110)),
        (146, 140, 132),
        (1.06, 1.0, 0.90),
        0.12,
        (0.2, 0.8),
    ),
    Camera(
        'cam_c',
        (108, 124, 80),
        (66, 84, 56),
        (0.1, 0.55),
        ((48, 66, 42), (92, 106, 70), (80, 66, 52), (150, 146, 134), (110, 118, 104)),
        (158, 150, 132),
        (1.0, 1.02, 0.95),
        0.16,
        (0.2, 0.7),
    ),
    Camera(
        'cam_d',
        (126, 128, 132),
        (110, 112, 116),
        (-0.5, 0.02),
        ((104, 106, 110), (152, 152, 152), (92, 96, 88), (140, 136, 128)),
        (204, 204, 200),
        (0.98, 1.0, 1.03),
        0.34,
        (0.2, 0.9),
    ),
    Camera(
        'cam_e',
        (98, 94, 92),
        (70, 68, 70),
        (0.3, 0.7),
        ((38, 38, 42), (150, 130, 96), (110, 60, 52), (60, 74, 92), (190, 178, 150)),
        (122, 118, 112),
        (0.98, 0.98, 1.04),
        0.10,
        (0.3, 1.0),
    ),
)


def paint_background(camera: Camera, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """One corner of a camera's scene, out of focus.

    Args:
        camera: The camera.
        rng: Decides what stands where.
        size: (rows, columns) of the image.

    Returns:
        (rows, columns, 3) float32, 0 to 255.
    """
    rows, columns = 64, max(round(64 * size[1] / size[0]), 8)
    level = rng.uniform(0.85, 1.35)
    horizon = rng.uniform(*camera.horizon) * rows

    def vary(colour: Colour, amount: float = 12) -> Colour:
        values = np.clip(
            np.array(colour) * level + rng.normal(0, amount) + rng.normal(0, 2.5, 3), 0, 255
        )
        red, green, blue = (int(value) for value in values)
        return red, green, blue

    image = Image.new('RGB', (columns, rows), vary(camera.ground))
    draw = ImageDraw.Draw(image)
    _paint_ground(draw, camera, rng, rows, columns, vary)
    if horizon > 1:
        draw.rectangle((0, 0, columns, horizon), fill=vary(camera.back))
        for _ in range(rng.integers(2, 7)):
            width, height = rng.uniform(2, columns * 0.6), rng.uniform(0.3, 1.1) * horizon
            x, foot = rng.uniform(-0.3, 1) * columns, horizon * rng.uniform(0.7, 1.06)
            colour = vary(camera.clutter[rng.integers(len(camera.clutter))])
            box = (x, foot - height, x + width, foot)
            (draw.ellipse if camera.name == 'cam_c' else draw.rectangle)(box, fill=colour)
    for _ in range(rng.integers(0, 3)):
        _paint_passer(draw, camera, rng, rows, columns, max(horizon, 0), vary)
    if rng.random() < 0.08:
        colour = vary(tuple(COLOURS.values())[rng.integers(len(COLOURS))])
        x, y = rng.uniform(0, columns), rng.uniform(0, rows)
        draw.rectangle((x, y, x + rng.uniform(3, 12), y + rng.uniform(3, 14)), fill=colour)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.0)))
    pixels = np.asarray(
        image.resize((size[1], size[0]), Image.Resampling.BICUBIC), dtype=np.float32
    )
    grain = rng.standard_normal((size[0] // 2, size[1] // 2), dtype=np.float32)
    grain *= np.float32(rng.uniform(0.5, 4))
    grain = np.asarray(Image.fromarray(grain).resize((size[1], size[0])))
    slope = np.linspace(-1, 1, size[0], dtype=np.float32) * rng.uniform(-14, 14)
    return pixels + grain[..., None] + slope[:, None, None]


def _paint_ground(
    draw: ImageDraw.ImageDraw,
    camera: Camera,
    rng: np.random.Generator,
    rows: int,
    columns: int,
    vary,
) -> None:
    slant = rng.uniform(-1, 1)
    if rng.random() < 0.55:
        gap = rng.uniform(7, 16)
        colour = tuple(int(0.86 * value) for value in vary(camera.ground, 6))
        for start in np.arange(-columns, 2 * columns, gap):
            draw.line((start, rows, start + slant * rows, 0), fill=colour)
        y = float(rows)
        while y > 0:
            draw.line((0, y, columns, y - slant * 3), fill=colour)
            gap *= 0.86
            y -= max(gap, 2.5)
    for _ in range(rng.integers(0, 3)):
        x, y = rng.uniform(0, columns), rng.uniform(0, rows)
        shift = rng.uniform(-1.2, 1.2) * rows
        draw.line(
            (x - shift, y + rows, x + shift, y - rows),
            fill=vary(camera.marks),
            width=int(rng.integers(1, 5)),
        )
    if rng.random() < 0.3:
        x, y = rng.uniform(-0.4, 1) * columns, rng.uniform(0.1, 0.9) * rows
        shadow = tuple(int(0.68 * value) for value in vary(camera.ground, 4))
        draw.polygon(
            [
                (x, y),
                (x + rng.uniform(8, 40), y + rng.uniform(-8, 8)),
                (x + rng.uniform(8, 40), y + rng.uniform(6, 24)),
                (x + rng.uniform(-10, 10), y + rng.uniform(6, 24)),
            ],
            fill=shadow,
        )


def _paint_passer(
    draw: ImageDraw.ImageDraw,
    camera: Camera,
    rng: np.random.Generator,
    rows: int,
    columns: int,
    horizon: float,
    vary,
) -> None:
    """Somebody far behind: a few blobs."""
    if rng.random() < 0.6:
        return
    height = rng.uniform(0.2, 0.55) * rows
    x = rng.uniform(0, 1) * columns
    foot = min(horizon + rng.uniform(0.3, 0.9) * height, rows)
    top, bottom = (vary(tuple(COLOURS.values())[rng.integers(len(COLOURS))]) for _ in range(2))
    width = height * 0.13
    draw.rectangle((x - width * 0.7, foot - height * 0.5, x + width * 0.7, foot), fill=bottom)
    draw.rectangle((x - width, foot - height * 0.86, x + width, foot - height * 0.46), fill=top)
    draw.ellipse(
        (x - width * 0.4, foot - height, x + width * 0.4, foot - height * 0.84), fill=(70, 52, 44)
    )


def paint_occluder(canvas: Canvas, rng: np.random.Generator) -> None:
    """Put a post, a railing, a bollard or the shoulder of somebody else in front."""
    rows, columns = canvas.pixels.shape[:2]
    grey = np.array(rng.uniform(60, 190) + rng.normal(0, 8, 3), dtype=np.float32)
    kind = rng.random()
    side = rng.choice((-1.0, 1.0))
    if kind < 0.35:
        x = columns * (0.5 + side * rng.uniform(0.12, 0.45))
        canvas.box((x, rows / 2), rng.uniform(0.012, 0.03), 1.0, grey)
    elif kind < 0.5:
        y = rows * rng.uniform(0.72, 0.9)
        canvas.box((columns / 2, y), 0.6, rng.uniform(0.008, 0.016), grey)
        for x in np.arange(rng.uniform(0, 0.4), 1, 0.4) * columns:
            canvas.box((x, (y + rows) / 2), 0.01, (rows - y) / 2 / canvas.scale, grey)
    elif kind < 0.65:
        x = columns * (0.5 + side * rng.uniform(0.15, 0.4))
        canvas.box((x, rows), rng.uniform(0.04, 0.08), rng.uniform(0.12, 0.3), grey, corner=0.04)
    else:
        colours = np.array(list(COLOURS.values()), dtype=np.float32)
        top, bottom = colours[rng.integers(len(colours), size=2)]
        x = columns * (0.5 + side * rng.uniform(0.46, 0.56))
        y = rows * rng.uniform(-0.05, 0.2)
        canvas.limb((x, y + 0.55 * canvas.scale), (x, rows * 1.1), 0.09, 0.06, Cloth(bottom))
        canvas.limb(
            (x, y + 0.2 * canvas.scale), (x, y + 0.5 * canvas.scale), 0.12, 0.11, Cloth(top)
        )
        canvas.ellipse(
            (x, y + 0.03 * canvas.scale), 0.05, 0.065, np.array((64, 48, 40), dtype=np.float32)
        )


def expose(pixels: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """What the camera makes of the light: exposure, colour cast, saturation, contrast, noise.

    Args:
        pixels: (rows, columns, 3) float32, 0 to 255.
        camera: The camera.
        rng: Draws the exposure (factor 0.6 to 1.2) and the noise.
    """
    light = np.clip(rng.normal(0.98, 0.13), 0.6, 1.2)
    cast = (np.array(camera.cast) * rng.normal(1, 0.018, 3) * light).astype(np.float32)
    saturation, contrast = rng.uniform(0.5, 0.95), rng.uniform(0.85, 1.55)
    # One matrix does colour balance, saturation and contrast around a middle grey.
    mix = np.full((3, 3), (1 - saturation) / 3, dtype=np.float32) + saturation * np.eye(3)
    matrix = (cast[:, None] * mix * contrast).astype(np.float32)
    offset = np.float32(118 * light * (1 - contrast) + rng.uniform(0, 10))
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(0, 3))
    return pixels @ matrix + offset + noise
