"""What this process does beyond its own folder: programs, connections, other files.

Python tells its audit hooks of whatever it opens, runs and connects to; what libraries in C open
is seen by inotify (Linux) where it matters, in a folder with files that hostile samples name.
"""

import ctypes
import os
import struct
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.audit import listening

ROOT = Path(__file__).parents[2]
RUNS = frozenset({
    'os.system', 'os.exec', 'os.posix_spawn', 'os.spawn', 'os.fork', 'os.forkpty', 'pty.spawn',
    'subprocess.Popen', 'webbrowser.open',
})  # fmt: skip
CONNECTS = frozenset({
    'socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto',
    'socket.sendmsg', 'socket.bind',
})  # fmt: skip
# Places of paths, each with that of the folder's descriptor, among the arguments.
CHANGES = {
    'os.remove': [(0, 1)], 'os.rmdir': [(0, 1)], 'os.mkdir': [(0, 2)],
    'os.rename': [(0, 2), (1, 3)], 'os.link': [(1, 3)], 'os.symlink': [(1, 2)],
    'os.truncate': [(0, None)], 'os.chmod': [(0, 2)], 'os.chown': [(0, 3)], 'os.utime': [(0, 3)],
    'shutil.rmtree': [(0, None)], 'shutil.move': [(0, None), (1, None)],
}  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Where the code itself lies, and what the system tells of itself.
CODE = tuple(
    os.path.realpath(path)
    for path in (ROOT, sys.prefix, sys.base_prefix, '/usr', '/lib', '/lib64', '/proc', '/sys',
                 '/dev/null', '/dev/urandom', '/etc/localtime', '/etc/mime.types')
)  # fmt: skip
# Files of the user's that no sample has any business with; the package must never be imported.
PLANTED = {
    'victim.txt': 'years of work',
    'secret.json': '{}',
    'evil/__init__.py': "open('harmed', 'w').close()",
    'evil/registry.py': "open('harmed', 'w').close()",
    'evil/config.json': '{}',
}
# Opened, changed, moved, created, deleted; a bit beside them says that it was a folder.
_TOLD, _IS_FOLDER = 0x02 | 0x04 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200, 0x40000000
_EVENT = struct.Struct('iIII')


class Watch:
    """Watches what happens beside the folder of a case.

    Args:
        outside: Folder for the planted files; hostile samples name them relative to it.
    """

    def __init__(self, outside: Path) -> None:
        self.outside = outside
        for name, text in PLANTED.items():
            (outside / name).parent.mkdir(parents=True, exist_ok=True)
            (outside / name).write_text(text)
        self._faults: list[str] = []
        self._readable: tuple[str, ...] = ()
        self._writable = ''
        self._addresses: Collection = ()
        self._inotify = _inotify(outside, outside / 'evil')

    def close(self) -> None:
        """Gives back what the system lent."""
        if self._inotify is not None:
            os.close(self._inotify)

    @contextmanager
    def watching(
        self, folder: Path, *, readable: Collection[Path] = (), addresses: Collection = ()
    ) -> Iterator[list[str]]:
        """Gives a list of what the block does that it should not; complete when it ends.

        Args:
            folder: What may be read and written.
            readable: What may be read, besides the code.
            addresses: What may be connected to.
        """
        self._faults = faults = []
        self._writable = os.path.realpath(folder)
        self._readable = (self._writable, *map(os.path.realpath, readable), *CODE)
        self._addresses = addresses
        before = threading.excepthook, sys.unraisablehook
        threading.excepthook = lambda told: faults.append(f'a thread raised {told.exc_value!r}')
        sys.unraisablehook = lambda told: faults.append(f'unraisable {told.exc_value!r}')
        try:
            with listening(self._hear):
                yield faults
        finally:
            threading.excepthook, sys.unraisablehook = before
            faults += self._told_by_inotify()
            faults += self._changed()

    def _hear(self, event: str, arguments: tuple) -> None:
        if event in RUNS:
            self._faults.append(f'ran {event} {arguments!r:.200}')
        elif event in CONNECTS:
            # The first is a socket, or the address begins.
            asked = arguments[:2] if event == 'socket.getaddrinfo' else arguments[-1]
            if asked not in self._addresses:
                self._faults.append(f'connected: {event} {asked!r:.200}')
        elif event == 'import':
            if arguments[0].partition('.')[0] == 'evil':
                self._faults.append(f'imported {arguments[0]}')
        elif event == 'open':
            self._opened(*arguments)
        elif event == 'sqlite3.connect':
            if self._is_beyond(_real(arguments[0]), self._readable):
                self._faults.append(f'{event} {arguments!r:.200}')
        elif event in CHANGES:
            for place, of_folder in CHANGES[event]:
                folder = -1 if of_folder is None else arguments[of_folder]
                if self._is_beyond(_real(arguments[place], folder), (self._writable,)):
                    self._faults.append(f'{event} {arguments!r:.200}')

    def _opened(self, path: object, mode: str | None, flags: int) -> None:
        writes = flags & WRITES if mode is None else set('wax+') & set(mode)
        # A number is a file that is open already; shutil.rmtree opens relative to one.
        if isinstance(path, int) or (mode is None and not writes and not os.path.isabs(path)):
            return
        allowed = (self._writable, '/dev/null') if writes else self._readable
        real = _real(path) if flags & os.O_NOFOLLOW else os.path.realpath(os.fsdecode(path))
        if self._is_beyond(real, allowed):
            self._faults.append(f'opened {os.fsdecode(path)!r} to {"write" if writes else "read"}')

    def _is_beyond(self, path: str | None, allowed: tuple[str, ...]) -> bool:
        return path is not None and not any(f'{path}/'.startswith(f'{a}/') for a in allowed)

    def _told_by_inotify(self) -> list[str]:
        found = []
        try:
            content = os.read(self._inotify, 65536) if self._inotify is not None else b''
        except BlockingIOError:
            return []
        while content:
            _, mask, _, length = _EVENT.unpack(content[: _EVENT.size])
            name = content[_EVENT.size : _EVENT.size + length].rstrip(b'\0').decode()
            content = content[_EVENT.size + length :]
            if not mask & _IS_FOLDER and name not in found:
                found.append(name)
        return [f'touched {name} of the user' for name in found]

    def _changed(self) -> list[str]:
        found = {
            path.relative_to(self.outside).as_posix(): path.read_bytes()
            for path in self.outside.rglob('*')
            if path.is_file()
        }
        for name in found.keys() - PLANTED.keys():
            (self.outside / name).unlink()
        for name, text in PLANTED.items():
            if found.get(name) != text.encode():
                (self.outside / name).write_text(text)
        self._forget_own_reading()
        expected = {name: text.encode() for name, text in PLANTED.items()}
        wrong = sorted({*found.items()} ^ {*expected.items()})
        return [f'the files of the user changed: {wrong!r:.300}'] if wrong else []

    def _forget_own_reading(self) -> None:
        if self._inotify is not None:
            while True:
                try:
                    os.read(self._inotify, 65536)
                except BlockingIOError:
                    return


def _real(path: object, folder: int = -1) -> str | None:
    """Where a path itself lies, whatever it links to; None if it is not a path."""
    if isinstance(path, int):
        return None
    path = os.fsdecode(path)
    if path == ':memory:':
        return None
    if folder is not None and folder >= 0:
        path = os.path.join(os.readlink(f'/proc/self/fd/{folder}'), path)
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(parent), name)


def _inotify(*folders: Path) -> int | None:
    """A descriptor that tells of files in some folders; None where the system has no such thing."""
    if not sys.platform.startswith('linux'):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    for folder in folders:
        libc.inotify_add_watch(descriptor, os.fsencode(folder), _TOLD)
    return descriptor
