"""The file in which a server tells the queries of its user where it is, and a key to ask with."""

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sen_toolbox.search.running.folder import check_own, make_own_folder, own_folder

# Bytes; a notice has a few hundred.
LARGEST = 10_000


@dataclass(frozen=True)
class Notice:
    """What a server tells.

    Attributes:
        port: Of a loopback address; which one is not for a file to choose.
        ipv6: Whether that is ``::1``, not ``127.0.0.1``.
        key: What both sides seal their messages with.
        served: What it searches, see :func:`~sen_toolbox.search.running.served.served_by`.
    """

    port: int
    ipv6: bool
    key: str
    served: Mapping[str, Any]


@contextmanager
def announced(index: str | os.PathLike, notice: Notice) -> Iterator[None]:
    """Keeps a notice of the index while the block runs, in place of that of another server.

    Raises:
        OSError: If it cannot be written.
        ValueError: If the user's folder is not his alone.
        RuntimeError: If the user has no home.
    """
    path = make_own_folder() / _name(index)
    partial = path.with_name(f'{path.name}.{secrets.token_hex(4)}')
    content = json.dumps(asdict(notice)).encode()
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, 'wb') as file:
        file.write(content)
    os.replace(partial, path)
    try:
        yield
    finally:
        # Another server may have come since.
        with suppress(OSError):
            if path.read_bytes() == content:
                path.unlink()


def read_notice(index: str | os.PathLike) -> Notice | None:
    """The notice of an index; None if there is none, or one that is not the user's own."""
    with suppress(OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError):
        folder = own_folder()
        check_own(folder, folder.lstat(), stat.S_ISDIR)
        return _checked(json.loads(_read(folder / _name(index))))
    return None


def _name(index: str | os.PathLike) -> str:
    path = os.path.realpath(os.fspath(index))
    return f'{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json'


def _read(path: Path) -> bytes:
    # Neither through a link, nor waiting for whoever writes into a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, 'rb') as file:
        check_own(path, os.fstat(descriptor), stat.S_ISREG)
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f'{path} has more than {LARGEST} bytes')
    return content


def _checked(found: Any) -> Notice:
    kinds = dict(port=int, ipv6=bool, key=str, served=dict)
    if not isinstance(found, dict) or {k: type(v) for k, v in found.items()} != kinds:
        raise ValueError('this is not the notice of a server')
    if not 0 < found['port'] < 65536:
        raise ValueError(f'{found["port"]} is not a port')
    return Notice(**found)
