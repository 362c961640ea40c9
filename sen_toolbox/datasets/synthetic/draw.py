"""Draw one view of a person: a jointed figure, turned and projected, dressed and photographed."""

import numpy as np
from PIL import Image, ImageFilter

from .belongings import add_bag, add_carried
from .body import add_arm, add_leg, add_torso
from .canvas import Canvas
from .figure import Figure
from .head import add_head
from .people import Person
from .scene import CAMERAS, Camera, expose, paint_background, paint_occluder

OVERSAMPLING = 2


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
    figure = Figure(
        person,
        rng,
        canvas,
        elevation=place.elevation * rng.uniform(0.6, 1.3),
        left=columns * (0.5 + float(np.clip(rng.normal(0, 0.05), -0.12, 0.12))),
        top=slack * rng.uniform(0.25, 0.75) if slack > 0 else slack * 0.3,
    )
    paint_person(figure)
    if rng.random() < 0.14:
        paint_occluder(canvas, rng)
    return photograph(canvas.pixels, place, rng, image_size)


def paint_person(figure: Figure) -> None:
    """Paints a person in a stance on the canvas of the figure."""
    figure.canvas.shadow(figure.at((0.0, 0.985, 0.0)), 0.19, 0.045, 0.45)
    for side in (0, 1):
        add_leg(figure, side)
        add_arm(figure, side)
    add_torso(figure)
    add_head(figure)
    add_bag(figure)
    add_carried(figure)
    for _, paint in sorted(figure.parts, key=lambda part: part[0]):
        paint()


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
