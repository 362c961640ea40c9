"""The page over HTTP: connections are read and written by one thread, answers made by a few.

So a client that sends or takes a byte now and then costs a socket, and no thread.
"""

import asyncio
import ipaddress
import logging
import resource
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from time import monotonic
from types import TracebackType

from sen_toolbox.search.web.api import SearchApi
from sen_toolbox.search.web.key import PageKey
from sen_toolbox.search.web.own_queries import OwnQueries
from sen_toolbox.search.web.request import Head, RefusedError, take_head
from sen_toolbox.search.web.site import Answer, Site, failure

# Clients that wait to be accepted.
BACKLOG = 512
# Beyond these the one that has kept its connection waiting for longest is dropped.
MAX_CONNECTIONS = 256
# Files of the index, of the model, and images that are being read.
OTHER_FILES = 64
# Seconds for a whole request to arrive, also for the next one on a connection, and for its answer
# to be taken; however many bytes come meanwhile.
REQUEST_SECONDS, ANSWER_SECONDS = 10, 15
# Seconds for a client to close after an answer that is its last.
LAST_SECONDS = 1
# Answers that are made at once; more would only take the cores from one another.
WORKERS = 4
HEADERS = {
    # The page's own files only: what a file name might smuggle in would not run.
    'Content-Security-Policy': "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    # Another site may neither show a picture nor learn its size.
    'Cross-Origin-Resource-Policy': 'same-origin',
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
}


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    task: asyncio.Task | None = None
    # Since when the client has been expected to send or to take something; None while it waits.
    since: float | None = field(default_factory=monotonic)

    def drop(self) -> None:
        """Ends what is done for it."""
        if self.task is not None:
            self.task.cancel()


class PageServer:
    """Serves the page until it is shut down; listens from the beginning.

    Args:
        api: What answers.
        host: Address to listen on.
        port: Its port; 0 for any that is free, see ``server_port``.
        own: What answers queries of the user's own.

    Raises:
        OSError: If it cannot listen there.
    """

    def __init__(
        self,
        api: SearchApi,
        *,
        host: str = '127.0.0.1',
        port: int = 8765,
        own: OwnQueries | None = None,
    ) -> None:
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._socket.setblocking(False)
        self.server_address = self._socket.getsockname()
        self.server_port: int = self.server_address[1]
        is_local = ipaddress.ip_address(self.server_address[0]).is_loopback
        # Needed as soon as other machines can reach the page.
        self.key = None if is_local else PageKey(self.server_port)
        self._site = Site(api, key=self.key, own=own)
        self._connections: set[_Connection] = set()
        self._limit = _connection_limit()
        self._stop = threading.Event()
        self._wake: asyncio.Future | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> 'PageServer':
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server_close()

    def serve_forever(self) -> None:
        """Answers requests until :meth:`shutdown` or an interruption."""
        asyncio.run(self._serve())

    def shutdown(self) -> None:
        """Ends :meth:`serve_forever`, from another thread, once the answers in work are made."""
        self._stop.set()
        if self._loop is not None:
            # It may have ended by itself.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._end)

    def server_close(self) -> None:
        """Stops listening."""
        self._socket.close()

    def _end(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = self._loop.create_future()
        with ThreadPoolExecutor(WORKERS, 'page') as self._workers:
            accepting = asyncio.create_task(self._accept())
            try:
                if not self._stop.is_set():
                    await self._wake
            finally:
                tasks = [accepting, *(c.task for c in self._connections if c.task)]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self._socket)
            except OSError:
                # No file descriptors are left, or the client has gone already.
                self._drop_oldest()
                await asyncio.sleep(0.01)
                continue
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self._connections) >= self._limit and not self._drop_oldest():
                # All of them wait for answers that are being made.
                with suppress(OSError), client:
                    client.send(_encoded(failure(503, 'too many at once'), keeps_open=False))
                continue
            connection = _Connection(client)
            self._connections.add(connection)
            connection.task = asyncio.create_task(self._keep(connection))
            # Not at the end of the task, which may be cancelled before it has begun.
            connection.task.add_done_callback(partial(self._forget, connection))
            # Where many are waiting to be accepted, the others go on too.
            await asyncio.sleep(0)

    def _drop_oldest(self) -> bool:
        """Drops the client that has been waited for longest; whether there is one."""
        waited_for = {c: c.since for c in self._connections if c.since is not None and c.task}
        if waited_for:
            oldest = min(waited_for, key=waited_for.__getitem__)
            # Not a second time, if it takes a moment to go.
            oldest.since = None
            oldest.drop()
        return bool(waited_for)

    async def _keep(self, connection: _Connection) -> None:
        """Answers the requests of a connection until it ends, one way or another."""
        try:
            while await self._exchange(connection):
                pass
        except (OSError, asyncio.CancelledError):
            # Gone, too slow, or dropped: nobody is there to be told.
            pass
        except Exception:
            logging.getLogger(__name__).exception('a connection failed')

    def _forget(self, connection: _Connection, task: asyncio.Task) -> None:
        connection.socket.close()
        self._connections.discard(connection)

    async def _exchange(self, connection: _Connection) -> bool:
        """Reads a request and answers it; whether another may follow."""
        connection.since = monotonic()
        keeps_open = False
        try:
            with _within(connection, REQUEST_SECONDS):
                request = await self._request(connection)
            if request is None:
                return False
        except RefusedError as refused:
            answer = failure(refused.code, str(refused))
        else:
            head, body = request
            connection.since = None
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._workers, self._site.answer, head, body)
            keeps_open = head.keeps_open and answer.code < 400
        connection.since = monotonic()
        with _within(connection, ANSWER_SECONDS):
            await self._send(connection, answer, keeps_open=keeps_open)
        return keeps_open

    async def _request(self, connection: _Connection) -> tuple[Head, bytes] | None:
        """A whole request; None if the client has ended the connection before one."""
        buffer = connection.buffer
        while (head := take_head(buffer)) is None:
            if not await self._receive(connection):
                if buffer:
                    raise RefusedError(400, 'the request breaks off')
                return None
        while len(buffer) < head.length:
            if not await self._receive(connection):
                raise RefusedError(400, 'the request breaks off')
        body = bytes(buffer[: head.length])
        del buffer[: head.length]
        return head, body

    async def _receive(self, connection: _Connection) -> bool:
        content = await asyncio.get_running_loop().sock_recv(connection.socket, 65_536)
        connection.buffer += content
        return bool(content)

    async def _send(self, connection: _Connection, answer: Answer, *, keeps_open: bool) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection.socket, _encoded(answer, keeps_open=keeps_open))
        if keeps_open:
            return
        # Closing while something is still arriving would take the answer from the client.
        connection.socket.shutdown(socket.SHUT_WR)
        with _within(connection, LAST_SECONDS):
            while await loop.sock_recv(connection.socket, 65_536):
                pass


@contextmanager
def _within(connection: _Connection, seconds: float) -> Iterator[None]:
    """Drops a connection if the block takes longer."""
    # asyncio.wait_for would read in a task of its own, and lose what that raises.
    timer = asyncio.get_running_loop().call_later(seconds, connection.drop)
    try:
        yield
    finally:
        timer.cancel()


def _connection_limit() -> int:
    """How many connections the descriptors of this process allow."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(8, files - OTHER_FILES))


def _encoded(answer: Answer, *, keeps_open: bool) -> bytes:
    lines = [
        f'HTTP/1.1 {answer.code} {HTTPStatus(answer.code).phrase}',
        f'Content-Type: {answer.kind}',
        f'Content-Length: {len(answer.content)}',
        'Cache-Control: ' + ('private, max-age=60' if answer.kind == 'image/jpeg' else 'no-store'),
        *(f'{name}: {value}' for name, value in {**HEADERS, **answer.headers}.items()),
    ]
    if not keeps_open:
        lines.append('Connection: close')
    return '\r\n'.join([*lines, '', '']).encode('latin-1') + answer.content
