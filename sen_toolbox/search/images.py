"""Finds image files and reads them so that no file, however damaged, stops an indexing."""

import hashlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

from sen_toolbox import pictures
from sen_toolbox.io import read_regular
from sen_toolbox.search.index_folder import is_index_folder
from sen_toolbox.search.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# Beyond a photo of any camera; the decoded image takes three bytes a pixel.
MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Crop:
    """A person cut out of a file.

    Attributes:
        image: RGB (H, W, 3) uint8.
        place: Where in the file it was, as JSON values; empty for the whole of an image.
    """

    image: np.ndarray
    place: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """Files below some folders.

    Attributes:
        paths: Absolute paths of the files, sorted, each once.
        folders: Absolute paths of the folders that were searched.
        problems: Reason by path of what could not be listed.
    """

    paths: list[str]
    folders: list[str]
    problems: dict[str, str]


def find_files(
    source: str | os.PathLike | Iterable[str | os.PathLike],
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    *,
    excluded: Collection[str | os.PathLike] = (),
) -> Found:
    """Files of a folder and the folders below it, or of a list of files and folders.

    Links are followed; a folder that is reached twice, as by a link to its parent, counts once.
    The folder of an index, whose crops are of images that are elsewhere, is left out.

    Args:
        source: A folder, or files and folders.
        suffixes: Suffixes, in lower case, of the files to take from a folder. A file that
            ``source`` names itself is taken whatever its suffix.
        excluded: Folders to leave out.

    Raises:
        FileNotFoundError: If a folder does not exist or holds no such file. Whoever indexes a
            drive that is not mounted must not lose its entries.
    """
    paths: set[str] = set()
    folders: list[str] = []
    problems: dict[str, str] = {}
    for item in [source] if isinstance(source, str | os.PathLike) else source:
        path = os.path.abspath(os.fspath(item))
        if os.path.isdir(path):
            below = _files_below(path, suffixes, problems, excluded)
            if not below:
                hint = ''
                if VIDEO_SUFFIXES.isdisjoint(suffixes):
                    videos = _files_below(path, VIDEO_SUFFIXES, {}, excluded)
                    hint = f', but {len(videos)} videos: add --detect' if videos else ''
                raise FileNotFoundError(
                    f'{path} holds no images ({", ".join(sorted(suffixes))}){hint}'
                )
            folders.append(path)
            paths |= below
        elif isinstance(source, str | os.PathLike) and not os.path.exists(path):
            raise FileNotFoundError(f'there is no folder {path}')
        else:
            paths.add(path)
    return Found(sorted(paths, key=os.fsencode), folders, problems)


def _files_below(
    folder: str,
    suffixes: Collection[str],
    problems: dict[str, str],
    excluded: Collection[str | os.PathLike],
) -> set[str]:
    known = (os.stat(path) for path in excluded if os.path.isdir(path))
    found, seen = set(), {(status.st_dev, status.st_ino) for status in known}

    def note(error: OSError) -> None:
        problems[error.filename] = f'cannot be listed ({error.strerror})'

    for parent, names, files in os.walk(folder, onerror=note, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen or is_index_folder(files):
            names.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # The order decides which of two ways to one folder counts.
        names.sort()
        found |= {
            os.path.join(parent, name)
            for name in files
            if os.path.splitext(name)[1].lower() in suffixes
        }
    return found


def read_image(path: str | os.PathLike) -> np.ndarray:
    """RGB (H, W, 3) uint8 of an image file, turned upright by its EXIF tag.

    Raises:
        ValueError: If the file cannot be read or decoded; says why, without the path.
    """
    try:
        return pictures.read_image(path, MAX_PIXELS)
    except OSError as error:
        raise ValueError(f'cannot be read ({error.strerror})') from error
    except ValueError as error:
        raise _undecodable(error) from error


def read_whole(path: str) -> tuple[str, Iterable[Crop]]:
    """The SHA-256 of an image file, and all of it as one crop, decoded when it is asked for.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a regular file of sensible size; says why, without the path.
    """
    data = read_regular(path, pictures.MAX_BYTES)
    return hashlib.sha256(data).hexdigest(), map(_whole, [data])


def _whole(data: bytes) -> Crop:
    try:
        return Crop(pictures.decode_image(data, MAX_PIXELS))
    except ValueError as error:
        raise _undecodable(error) from error


def _undecodable(error: ValueError) -> ValueError:
    return ValueError(f'cannot be decoded ({error})')
