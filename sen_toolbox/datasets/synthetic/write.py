"""Write a set of drawn pedestrians to disk in the layout of CUHK-PEDES."""

import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from sen_toolbox.checks import checked_at_least
from sen_toolbox.io import read_json, write_atomically
from sen_toolbox.messages import shown

from .describe import describe_person, split_words
from .draw import draw_person
from .people import Person, sample_people
from .scene import CAMERAS

#: Raised whenever the same parameters would give other files.
VERSION = 1
ANNOTATIONS = 'reid_raw.json'
PARAMETERS = 'synthetic.json'
_SPLITS = ('train', 'val', 'test')
# Identities in each split of the demo's set.
DRAWN_IDS = {'train': 1500, 'val': 150, 'test': 150}


def write_synthetic_pedes(
    root: str | os.PathLike,
    *,
    num_ids: Mapping[str, int] = DRAWN_IDS,
    images_per_id: int = 4,
    captions_per_image: int = 2,
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
    if _is_finished(root, parameters):
        return root / ANNOTATIONS
    write_atomically(root / PARAMETERS, json.dumps(parameters))
    people = sample_people(sum(num_ids.values()), seed=seed)
    splits = [split for split in _SPLITS for _ in range(num_ids.get(split, 0))]
    write = partial(_write_identity, root=root, parameters=parameters)
    records: list[dict] = []
    identities = list(zip(range(1, len(people) + 1), people, splits, strict=True))
    for done, written in enumerate(_run(write, identities, workers), start=1):
        records += written
        if progress is not None:
            progress(done, len(people))
    write_atomically(root / ANNOTATIONS, json.dumps(records))
    return root / ANNOTATIONS


def _checked(parameters: dict) -> dict:
    num_ids = parameters['num_ids']
    unknown = sorted(set(num_ids) - set(_SPLITS))
    if unknown:
        raise ValueError(f'num_ids names unknown splits {unknown}; choose from {_SPLITS}')
    if min(num_ids.values(), default=0) < 0 or sum(num_ids.values()) < 1:
        raise ValueError(f'num_ids must be at least 0 and 1 in all, but is {num_ids}')
    for name in ('images_per_id', 'captions_per_image'):
        checked_at_least(name, parameters[name], 1)
    if len(parameters['image_size']) != 2 or min(parameters['image_size']) < 16:
        raise ValueError(
            'image_size must be (rows, columns) of at least 16 each, but is '
            f'{parameters["image_size"]}'
        )
    checked_at_least('seed', parameters['seed'], 0)
    return parameters


def _is_finished(root: Path, parameters: dict) -> bool:
    """Whether the set is there; refuses a folder with another set."""
    if not (root / PARAMETERS).exists():
        if (root / ANNOTATIONS).exists():
            raise ValueError(
                f'{root} holds a {ANNOTATIONS} that was not drawn (there is no '
                f'{PARAMETERS} beside it); choose another folder'
            )
        return False
    found = read_json(root / PARAMETERS)
    if not isinstance(found, dict):
        raise ValueError(
            f'{root / PARAMETERS} holds a {type(found).__name__}, expected the numbers that the '
            'set was drawn with: choose another folder or delete that one'
        )
    differing = [
        f'{name} is {shown(found.get(name))} there and {value!r} here'
        for name, value in parameters.items()
        if found.get(name) != value
    ]
    if differing:
        raise ValueError(
            f'{root} holds a drawn set with other parameters: {"; ".join(differing)}. '
            'Choose another folder or delete that one'
        )
    return (root / ANNOTATIONS).exists()


def _run(
    write: Callable[[tuple], list[dict]], identities: list[tuple], workers: int | None
) -> Iterator[list[dict]]:
    workers = min(os.cpu_count() or 1, 8) if workers is None else workers
    checked_at_least('workers', workers, 1)
    if workers == 1:
        yield from map(write, identities)
        return
    # A forked worker need not import torch again; where forking does not exist, be slower.
    method = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else None
    with multiprocessing.get_context(method).Pool(workers) as pool:
        yield from pool.imap(write, identities, chunksize=4)


def _write_identity(
    identity: tuple[int, Person, str], *, root: Path, parameters: dict
) -> list[dict]:
    """Write the views of one identity that are missing; return its records."""
    person_id, person, split = identity
    seed, size = parameters['seed'], tuple(parameters['image_size'])
    cameras = np.random.default_rng([seed, person_id]).permutation(len(CAMERAS))
    records = []
    for view in range(parameters['images_per_id']):
        camera = int(cameras[view % len(CAMERAS)])
        file_path = f'{CAMERAS[camera].name}/{person_id:05d}_{view:02d}.jpg'
        target = root / 'imgs' / file_path
        if not target.exists():
            rng = np.random.default_rng([seed, person_id, view])
            pixels = draw_person(person, rng, size, camera=camera)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, 'JPEG', quality=int(rng.integers(60, 96)))
            write_atomically(target, buffer.getvalue())
        rng = np.random.default_rng([seed, person_id, view, 1])
        captions = [describe_person(person, rng) for _ in range(parameters['captions_per_image'])]
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
