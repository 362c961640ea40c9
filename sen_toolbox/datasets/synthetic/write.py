"""Write a set of drawn pedestrians to disk in the layout of CUHK-PEDES."""

import io
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from sen_toolbox.checks import checked_at_least
from sen_toolbox.io import write_atomically

from .describe import describe_person, split_words
from .describe_briefly import describe_briefly
from .draw import draw_person
from .files import checked_size, draw_set
from .people import Person, sample_people
from .scene import CAMERAS

#: Raised whenever the same parameters would give other files.
VERSION = 1
PARAMETERS = 'synthetic.json'
_SPLITS = ('train', 'val', 'test')
# Identities in each split of the demo's set.
DRAWN_IDS = {'train': 1500, 'val': 150, 'test': 400}


def write_synthetic_pedes(
    root: str | os.PathLike,
    *,
    num_ids: Mapping[str, int] = DRAWN_IDS,
    images_per_id: int = 4,
    captions_per_image: int = 2,
    brief_captions_per_image: int = 0,
    image_size: tuple[int, int] = (128, 64),
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw people and write their images, captions and identities.

    The files depend on nothing but the parameters: not on `workers`, nor on how often writing
    was interrupted. A finished set is left alone, an unfinished one is completed.

    Args:
        root: Folder to write to: ``imgs/<camera>/<id>_<view>.jpg``, ``reid_raw.json`` and
            ``synthetic.json``, which records the parameters.
        num_ids: Identities in each of ``train``, ``val`` and ``test``.
            Ids start at 1 and run on through the splits in this order.
        images_per_id: Views of each identity, at least 1.
        captions_per_image: Captions of each view, at least 1.
        brief_captions_per_image: Captions as people type them into a search (`describe_briefly`),
            which each view of ``train`` has besides; they fit many people.
        image_size: (rows, columns) of the images.
        seed: Seed of everything, at least 0.
        workers: Processes to draw with; by default one for each processor, at most 8.
        progress: Called with (identities done, identities in all) after each identity.

    Returns:
        The path of ``reid_raw.json``.

    Raises:
        ValueError: If a parameter is out of range, or the folder holds a set with other
            parameters or one that was not drawn.
    """
    root = Path(root)
    parameters = _checked(
        dict(
            version=VERSION,
            num_ids=dict(num_ids),
            images_per_id=images_per_id,
            captions_per_image=captions_per_image,
            image_size=list(image_size),
            seed=seed,
        )
    )
    # Left out of those of sets without.
    if checked_at_least('brief_captions_per_image', brief_captions_per_image, 0):
        parameters['brief_captions_per_image'] = brief_captions_per_image
    return draw_set(
        root,
        parameters,
        parameters_file=PARAMETERS,
        items=partial(_identities, num_ids, seed),
        write=partial(_write_identity, root=root, parameters=parameters),
        workers=workers,
        progress=progress,
    )


def _identities(num_ids: Mapping[str, int], seed: int) -> list[tuple[int, Person, str]]:
    """Number, person and split of each identity."""
    people = sample_people(sum(num_ids.values()), seed=seed)
    splits = [split for split in _SPLITS for _ in range(num_ids.get(split, 0))]
    return list(zip(range(1, len(people) + 1), people, splits, strict=True))


def _checked(parameters: dict) -> dict:
    num_ids = parameters['num_ids']
    unknown = sorted(set(num_ids) - set(_SPLITS))
    if unknown:
        raise ValueError(f'num_ids names unknown splits {unknown}; choose from {_SPLITS}')
    if min(num_ids.values(), default=0) < 0 or sum(num_ids.values()) < 1:
        raise ValueError(f'num_ids must be at least 0 and 1 in all, but is {num_ids}')
    for name in ('images_per_id', 'captions_per_image'):
        checked_at_least(name, parameters[name], 1)
    checked_size(parameters['image_size'])
    checked_at_least('seed', parameters['seed'], 0)
    return parameters


def _write_identity(
    identity: tuple[int, Person, str], *, root: Path, parameters: dict
) -> list[dict]:
    """Write the views of one identity that are missing; return its records."""
    person_id, person, split = identity
    seed, size = parameters['seed'], tuple(parameters['image_size'])
    records = []
    for view in range(parameters['images_per_id']):
        camera = CAMERAS[_camera(person_id, view, seed)].name
        file_path = f'{camera}/{person_id:05d}_{view:02d}.jpg'
        target = root / 'imgs' / file_path
        if not target.exists():
            pixels, rng = _draw_view(person, person_id, view, seed=seed, image_size=size)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, 'JPEG', quality=int(rng.integers(60, 96)))
            write_atomically(target, buffer.getvalue())
        rng = np.random.default_rng([seed, person_id, view, 1])
        captions = [describe_person(person, rng) for _ in range(parameters['captions_per_image'])]
        if split == 'train':
            brief = parameters.get('brief_captions_per_image', 0)
            captions += [describe_briefly(person, rng) for _ in range(brief)]
        records.append(
            dict(
                split=split,
                captions=captions,
                file_path=file_path,
                processed_tokens=[split_words(caption) for caption in captions],
                id=person_id,
            )
        )
    return records


def draw_view(
    person: Person, person_id: int, view: int, *, seed: int, image_size: tuple[int, int]
) -> np.ndarray:
    """The picture of a set before it is compressed.

    With another person in the place of the identity's own, the same stance, place and light.

    Args:
        person: Who is drawn.
        person_id: Identity, from 1 on.
        view: Number of the view, from 0 on.
        seed: Seed of the set.
        image_size: (rows, columns).

    Returns:
        (rows, columns, 3) uint8 RGB image.
    """
    return _draw_view(person, person_id, view, seed=seed, image_size=image_size)[0]


def _draw_view(
    person: Person, person_id: int, view: int, *, seed: int, image_size: tuple[int, int]
) -> tuple[np.ndarray, np.random.Generator]:
    rng = np.random.default_rng([seed, person_id, view])
    pixels = draw_person(person, rng, image_size, camera=_camera(person_id, view, seed))
    return pixels, rng


def _camera(person_id: int, view: int, seed: int) -> int:
    cameras = np.random.default_rng([seed, person_id]).permutation(len(CAMERAS))
    return int(cameras[view % len(CAMERAS)])
