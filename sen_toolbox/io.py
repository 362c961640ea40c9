"""Whole files: written so that a crash leaves the older one, read if they are such, and known."""

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any

# What a file that is being written ends with; only a killed process leaves one behind.
PARTIAL = '.partial'


@contextmanager
def atomic_path(target: str | os.PathLike) -> Iterator[Path]:
    """Gives a path beside ``target`` to write to; when the block ends, the file takes its place.

    The folder is made if need be. An error in the block removes what was written.

    Raises:
        OSError: If the disk is full or not writable; names the target, an older file stays.
    """
    target = Path(target)
    # A name of its own, since several processes may write one file.
    partial = target.with_name(f'{target.name}.{secrets.token_hex(4)}{PARTIAL}')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        put_in_place(partial, target)
    except OSError as error:
        raise OSError(
            error.errno,
            f'could not write {target} ({error.strerror or error}); any older file is kept',
        ) from error
    finally:
        # The folder itself may be what is missing.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_atomically(target: str | os.PathLike, content: bytes | str) -> None:
    """Writes a file, text in UTF-8; see :func:`atomic_path`."""
    with atomic_path(target) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def put_in_place(partial: Path, target: Path) -> None:
    """Replaces ``target`` by a finished file of the same folder, and has the disk remember it."""
    with open(partial, 'r+b') as file:
        os.fsync(file.fileno())
    os.replace(partial, target)
    _sync_folder(target.parent)


def check_regular(status: os.stat_result, max_bytes: float = inf) -> None:
    """Refuses what is not a file with some content: a FIFO or a device would never end.

    Raises:
        ValueError: Says why, without the path.
    """
    if not stat.S_ISREG(status.st_mode):
        raise ValueError('is not a regular file')
    if not status.st_size:
        raise ValueError('is empty')
    if status.st_size > max_bytes:
        raise ValueError(f'has {status.st_size} bytes, more than {max_bytes}')


def read_regular(path: str | os.PathLike, max_bytes: float = inf) -> bytes:
    """Content of a file; one that is not regular, or empty, or too large, is not even opened.

    Raises:
        OSError: If it cannot be read.
        ValueError: If :func:`check_regular` refuses it.
    """
    check_regular(os.stat(path), max_bytes)
    with open(path, 'rb') as file:
        return file.read()


def read_json(path: str | os.PathLike) -> Any:
    """What a JSON file (UTF-8) holds.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is anything else; names the file, in one line.
    """
    try:
        return json.loads(read_regular(path).decode('utf-8'))
    except json.JSONDecodeError as error:
        raise ValueError(
            f'{path} is not valid JSON at line {error.lineno}, column {error.colno} '
            f'({error.msg}): it may be cut off, copy it again'
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not UTF-8 text at byte {error.start}') from error
    except RecursionError as error:
        raise ValueError(f'{path} is nested too deeply to be read') from error
    except ValueError as error:
        # Python's own words for such a number are about its settings.
        reason = 'holds a number of too many digits' if 'digits' in str(error) else error
        raise ValueError(f'{path} {reason}') from error


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, 64 hexadecimal characters; the file need not fit into memory."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Writes the names in a folder to disk.

    Without that, a power cut could undo a renaming after what the file replaces has been deleted.
    """
    # Not every file system can; the content is safe without.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
