"""Write the drawn world to disk in the layout of CUHK-PEDES, each picture its own identity."""

import io
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from sen_toolbox.checks import checked_at_least
from sen_toolbox.io import write_atomically

from .alt_text import describe_scene
from .describe import split_words
from .files import checked_size, draw_set
from .world import draw_scene, sample_scene

#: Raised whenever the same parameters would give other files.
WORLD_VERSION = 2
WORLD_PARAMETERS = 'world.json'
#: Pictures in each split of the set that the shipped towers were made on.
WORLD_PICTURES = {'train': 24000, 'val': 800, 'test': 800}
# Beside those of `write.py`, whose seeds are of the same form.
_STREAM = 7


def write_drawn_world(
    root: str | os.PathLike,
    *,
    num_pictures: Mapping[str, int] = WORLD_PICTURES,
    captions_per_image: int = 4,
    image_size: tuple[int, int] = (128, 64),
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw pictures of anything, with captions such as the web has.

    The files depend on nothing but the parameters: not on `workers`, nor on how often writing
    was interrupted. A finished set is left alone, an unfinished one is completed.

    Args:
        root: Folder to write to: ``imgs/<thousand>/<number>.jpg``, ``reid_raw.json`` and
            ``world.json``, which records the parameters.
        num_pictures: Pictures in each of ``train``, ``val`` and ``test``, numbered from 1 on.
        captions_per_image: Captions of each picture, at least 1.
        image_size: (rows, columns) of the pictures.
        seed: Seed of everything, at least 0.
        workers: Processes to draw with; by default one for each processor, at most 8.
        progress: Called with (pictures done, pictures in all) after each picture.

    Returns:
        The path of ``reid_raw.json``.

    Raises:
        ValueError: If a parameter is out of range, or the folder holds a set with other
            parameters or one that was not drawn.
    """
    unknown = sorted(set(num_pictures) - set(WORLD_PICTURES))
    if unknown:
        raise ValueError(
            f'num_pictures names unknown splits {unknown}; choose from {tuple(WORLD_PICTURES)}'
        )
    if min(num_pictures.values(), default=0) < 0 or sum(num_pictures.values()) < 1:
        raise ValueError(
            f'num_pictures must be at least 0 and 1 in all, but is {dict(num_pictures)}'
        )
    checked_at_least('captions_per_image', captions_per_image, 1)
    checked_size(image_size)
    checked_at_least('seed', seed, 0)
    root = Path(root)
    parameters = dict(
        version=WORLD_VERSION,
        num_pictures=dict(num_pictures),
        captions_per_image=captions_per_image,
        image_size=list(image_size),
        seed=seed,
    )
    return draw_set(
        root,
        parameters,
        parameters_file=WORLD_PARAMETERS,
        items=partial(_numbers, num_pictures),
        write=partial(_write_picture, root=root, parameters=parameters),
        workers=workers,
        progress=progress,
    )


def _numbers(num_pictures: Mapping[str, int]) -> list[tuple[int, str]]:
    """Number and split of each picture."""
    splits = [split for split in WORLD_PICTURES for _ in range(num_pictures.get(split, 0))]
    return list(enumerate(splits, start=1))


def _write_picture(item: tuple[int, str], *, root: Path, parameters: dict) -> list[dict]:
    """Write one picture unless it is there; return its record."""
    number, split = item
    seed = parameters['seed']
    scene = sample_scene(np.random.default_rng([seed, number, 0, _STREAM]))
    file_path = f'{number // 1000:03d}/{number:06d}.jpg'
    target = root / 'imgs' / file_path
    if not target.exists():
        rng = np.random.default_rng([seed, number, 1, _STREAM])
        pixels = draw_scene(scene, rng, tuple(parameters['image_size']))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, 'JPEG', quality=int(rng.integers(50, 96)))
        write_atomically(target, buffer.getvalue())
    rng = np.random.default_rng([seed, number, 2, _STREAM])
    captions = [describe_scene(scene, rng) for _ in range(parameters['captions_per_image'])]
    return [
        dict(
            split=split,
            captions=captions,
            file_path=file_path,
            processed_tokens=[split_words(caption) for caption in captions],
            id=number,
        )
    ]
