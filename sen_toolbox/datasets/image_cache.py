"""Images as the fixed beginning of a pipeline leaves them, in one memory-mapped file."""

import hashlib
import json
import logging
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
from filelock import FileLock, Timeout
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose
from mmengine.logging import print_log
from numpy.lib.format import write_array_header_1_0

from sen_toolbox.io import PARTIAL, check_regular, put_in_place

# Changed when the file or what lies in it changes its meaning.
FORMAT = 2
CHUNK = 256
# Behind the images: what their content adds up to.
SUM = np.dtype('<u4')


class CachedImage(BaseTransform):
    """Takes ``img`` from a file, in the place of the transforms that made it.

    Args:
        file: Array (images, H, W, 3) uint8, as ``numpy.save`` writes it; what follows is not read.
        paths: The ``img_path`` of each row.
    """

    changes = frozenset({'img'})

    def __init__(self, file: Path, paths: Sequence[str]) -> None:
        self.file = file
        self._rows = {path: row for row, path in enumerate(paths)}
        self._open()

    def _open(self) -> None:
        # An ndarray, since numpy.memmap itself is slow to index.
        self._images = np.asarray(np.load(self.file, mmap_mode='r'))

    def transform(self, results: dict) -> dict:
        """Adds ``img``, uint8 (H, W, 3)."""
        # A copy, since a later transform may write into its image.
        results['img'] = self._images[self._rows[results['img_path']]].copy()
        return results

    def __getstate__(self) -> dict:
        # Pickled or copied, a memory map becomes an array of all that it maps.
        return {key: value for key, value in vars(self).items() if key != '_images'}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()


def split_pipeline(steps: Sequence[Callable]) -> tuple[list[Callable], list[Callable]]:
    """Divides a pipeline behind the ``deterministic`` transforms of ``img`` at its beginning.

    Such a transform has that attribute, ``changes`` nothing but ``img``, which it makes from
    ``img_path`` or from ``img``, and is described by its name and its attributes.
    """
    count = 0
    while count < len(steps) and _fixes_image(steps[count]):
        count += 1
    return list(steps[:count]), list(steps[count:])


def _fixes_image(step: Callable) -> bool:
    fixed = getattr(step, 'deterministic', False)
    return fixed and getattr(step, 'changes', None) == frozenset({'img'})


def cache_images(
    paths: Collection[str], steps: Sequence[Callable], *, folder: str | Path
) -> CachedImage:
    """Returns a transform in the place of ``steps``, whose images lie in a file.

    The file is made if there is none for these images (by path, size and time of change), these
    steps and this version of Pillow; it then replaces the file that was made of the same images
    before they changed. Any number of processes may ask at once: one makes the file, the others
    wait. If that one is interrupted, the next goes on where it was. A file that is there is read
    through, 5 GB per second from memory, and compared with its checksums; one that is damaged is
    made again, with a warning.

    Args:
        paths: The images; repetitions count once.
        steps: The deterministic beginning of a pipeline.
        folder: Where the file lies; best on a local disk.

    Raises:
        OSError: If the folder cannot be written or has too little room.
        ValueError: If there are no such steps, or images of two sizes, or one cannot be decoded.
    """
    if not steps:
        raise ValueError(
            'image_cache needs a pipeline that begins with deterministic transforms, e.g. '
            'LoadImage, ResizeImage'
        )
    paths = list(dict.fromkeys(paths))
    places = [os.path.abspath(path) for path in paths]
    makers = [f'{type(step).__name__} {sorted(vars(step).items())}' for step in steps]
    name = _digest([FORMAT, PIL.__version__, makers, places])
    # In threads, because each answer of a network drive takes a while.
    with ThreadPoolExecutor() as pool:
        states = list(pool.map(_state, paths))
    # Absolute, so that a change of the working directory does no harm.
    file = Path(folder).absolute() / f'images_{name}_{_digest(states)}.npy'
    if not file.exists() or _fault(file, len(paths)):
        with _locked(file.with_name(f'images_{name}.lock')):
            # Another process may have made it meanwhile.
            fault = _fault(file, len(paths)) if file.exists() else ''
            if fault:
                print_log(
                    f'image_cache: {file} {fault}: it is made again',
                    logger='current',
                    level=logging.WARNING,
                )
            if fault or not file.exists():
                _write(file, paths, Compose(list(steps)))
                for old in set(file.parent.glob(f'images_{name}_*')) - {file}:
                    old.unlink()
    return CachedImage(file, paths)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _state(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _fault(file: Path, count: int) -> str:
    """What is wrong with a file of so many images; empty if nothing is."""
    try:
        check_regular(os.stat(file))
        images = np.load(file, mmap_mode='r', allow_pickle=False)
    # A header that was damaged may say anything, more than there is memory or address space.
    except Exception as error:
        return f'is damaged ({" ".join(str(error).split())})'
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[0] != count:
        return f'holds {images.dtype} of the shape {images.shape}, not {count} images'
    with open(file, 'rb') as opened:
        start = _start_of_sums(file, opened.read(images.offset))
        opened.seek(images.offset + images.nbytes)
        sums = opened.read()
    if len(sums) != count * SUM.itemsize:
        return 'is cut off, or something was added to it'
    images = np.asarray(images)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda row: zlib.crc32(images[row].data, start), range(count)))
    if wrong := np.flatnonzero(np.frombuffer(sums, SUM) != found).tolist():
        return f'is damaged ({len(wrong)} of {count} images, the first is number {wrong[0]})'
    return ''


def _start_of_sums(file: Path, header: bytes) -> int:
    """What checksums go on from, so that an image of another shape or file has another one."""
    return zlib.crc32(header, zlib.crc32(file.name.encode()))


def _locked(path: Path) -> AbstractContextManager:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return FileLock(path).acquire(timeout=0)
        except Timeout:
            print_log(f'waiting for another process that writes {path.parent}', logger='current')
            return FileLock(path).acquire()
    except OSError as error:
        raise OSError(
            f'image_cache: cannot write into {path.parent} ({error}): name a folder that you may '
            'write, or set image_cache=None'
        ) from error


def _write(file: Path, paths: list[str], make: Callable[[dict], dict]) -> None:
    first = make({'img_path': paths[0]})['img']

    def pixels(path: str) -> tuple[bytes, int]:
        img = make({'img_path': path})['img']
        if img.shape != first.shape:
            raise ValueError(
                f'image_cache needs images of one size, but {path} has (rows, columns) '
                f'{img.shape[:2]} and {paths[0]} has {first.shape[:2]}: put ResizeImage behind '
                'LoadImage, or set image_cache=None'
            )
        content = img.tobytes()
        return content, zlib.crc32(content, start_of_sums)

    header = BytesIO()
    shape = (len(paths), *first.shape)
    write_array_header_1_0(header, {'descr': '|u1', 'fortran_order': False, 'shape': shape})
    start = header.tell()
    start_of_sums = _start_of_sums(file, header.getvalue())
    sums = np.zeros(len(paths), SUM)
    # Images are only ever added at the end, so the length of the file says how many are done.
    partial = file.with_suffix(PARTIAL)
    # What a kill left is a file. A link leads to another one, and a FIFO never ends.
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(partial.lstat().st_mode):
            partial.unlink()
    with open(partial, 'ab') as out:
        if out.tell() < start:
            out.truncate(0)
            out.write(header.getvalue())
        # A run that was killed after the last image has added sums behind it.
        done = min((out.tell() - start) // first.nbytes, len(paths))
        out.truncate(start + done * first.nbytes)
        with open(partial, 'rb') as before:
            before.seek(start)
            for row in range(done):
                sums[row] = zlib.crc32(before.read(first.nbytes), start_of_sums)
        _require_room(file.parent, (len(paths) - done) * first.nbytes)
        print_log(
            f'caching {len(paths):,} images in {file} ({len(paths) * first.nbytes / 1e9:.1f} GB'
            f'{f"; {done:,} are there already" if done else ""})',
            logger='current',
        )
        # In parts, since all would wait in memory for a slow disk.
        with ThreadPoolExecutor() as pool:
            for begin in range(done, len(paths), CHUNK):
                part = paths[begin : begin + CHUNK]
                for row, (content, total) in enumerate(pool.map(pixels, part), start=begin):
                    out.write(content)
                    sums[row] = total
                _log_progress(begin, begin + len(part), len(paths))
        out.write(sums.tobytes())
    put_in_place(partial, file)


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f'image_cache: the images need {needed / 1e9:.2f} GB in {folder}, where '
            f'{free / 1e9:.2f} GB are free: name a folder on a larger disk, or set '
            'image_cache=None'
        )


def _log_progress(before: int, done: int, total: int) -> None:
    # Ten lines suit a log file better than a bar.
    if done * 10 // total > before * 10 // total:
        print_log(f'cached {done:,} of {total:,} images', logger='current')
