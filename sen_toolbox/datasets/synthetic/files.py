"""Write a set of drawn pictures to a folder: refuse another set, complete an unfinished one."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sen_toolbox.checks import checked_at_least
from sen_toolbox.io import read_json, write_atomically
from sen_toolbox.messages import shown

ANNOTATIONS = 'reid_raw.json'


def draw_set(
    root: Path,
    parameters: dict,
    *,
    parameters_file: str,
    items: Callable[[], Sequence],
    write: Callable[[Any], list[dict]],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> Path:
    """Draw what is missing of a set and write its annotations last.

    Args:
        root: Folder of the set.
        parameters: All that the files depend on, as plain JSON values.
        parameters_file: Name of the file in the folder that records them.
        items: Returns what is drawn, in order; called only if the set is unfinished.
        write: Writes the images of one item that are missing and returns its records.
        workers: Processes to draw with; None for one for each processor, at most 8.
        progress: Called with (items done, items in all) after each item.

    Returns:
        The path of ``reid_raw.json``.

    Raises:
        ValueError: If the folder holds a set with other parameters or one that was not drawn.
    """
    if _is_finished(root, parameters, parameters_file):
        return root / ANNOTATIONS
    write_atomically(root / parameters_file, json.dumps(parameters))
    drawn = items()
    records: list[dict] = []
    for done, written in enumerate(_run(write, drawn, workers), start=1):
        records += written
        if progress is not None:
            progress(done, len(drawn))
    write_atomically(root / ANNOTATIONS, json.dumps(records))
    return root / ANNOTATIONS


def checked_size(image_size: Sequence[int]) -> None:
    """Raises ValueError unless it is (rows, columns) of at least 16 each."""
    if len(image_size) != 2 or min(image_size) < 16:
        raise ValueError(
            f'image_size must be (rows, columns) of at least 16 each, but is {image_size}'
        )


def _is_finished(root: Path, parameters: dict, parameters_file: str) -> bool:
    """Whether the set is there; refuses a folder with another set."""
    if not (root / parameters_file).exists():
        if (root / ANNOTATIONS).exists():
            raise ValueError(
                f'{root} holds a {ANNOTATIONS} that was not drawn (there is no '
                f'{parameters_file} beside it); choose another folder'
            )
        return False
    found = read_json(root / parameters_file)
    if not isinstance(found, dict):
        raise ValueError(
            f'{root / parameters_file} holds a {type(found).__name__}, expected the numbers that '
            'the set was drawn with: choose another folder or delete that one'
        )
    differing = [
        f'{name} is {shown(found.get(name))} there and {value!r} here'
        for name, value in parameters.items()
        if found.get(name) != value
    ]
    if others := sorted(found.keys() - parameters.keys()):
        differing.append(f'{shown(others[0])} is there and not here')
    if differing:
        raise ValueError(
            f'{root} holds a drawn set with other parameters: {"; ".join(differing)}. '
            'Choose another folder or delete that one'
        )
    return (root / ANNOTATIONS).exists()


def _run(
    write: Callable[[Any], list[dict]], items: Sequence, workers: int | None
) -> Iterator[list[dict]]:
    workers = min(os.cpu_count() or 1, 8) if workers is None else workers
    checked_at_least('workers', workers, 1)
    if workers == 1:
        yield from map(write, items)
        return
    # A forked worker need not import torch again; where forking does not exist, be slower.
    method = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else None
    with multiprocessing.get_context(method).Pool(workers) as pool:
        yield from pool.imap(write, items, chunksize=4)
