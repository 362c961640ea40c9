"""The client of Milvus; what goes wrong in it or in a server is one clear error."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

# The first with upsert; 2.3.5 tried.
OLDEST = (2, 3)


class MilvusClient:
    """pymilvus's ``MilvusClient``, whose faults are each a ``ConnectionError``.

    Args:
        uri: ``http://host:19530``, or a file ``*.db`` for Milvus Lite.

    Raises:
        ModuleNotFoundError: If pymilvus is not installed.
        ConnectionError: If nothing answers at ``uri``, or another process has the file open.
        ValueError: If something else than Milvus Lite keeps its files at ``uri``, or the server is
            too old.
    """

    def __init__(self, uri: str) -> None:
        try:
            import pymilvus
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'uri= takes the client of Milvus: pip install "sen-toolbox[milvus]"'
            ) from error
        _check_place(uri)
        # What it writes there it raises too. A server before 2.4 names no time for a reading of
        # several pages, of which the client warns each time.
        logging.getLogger('pymilvus').setLevel(logging.CRITICAL)
        self._uri = uri
        try:
            self._client = pymilvus.MilvusClient(uri)
        except pymilvus.MilvusException as error:
            raise ConnectionError(
                f'no Milvus at {uri} ({error.message}): start one, or wait for the process that '
                'has the file open'
            ) from error
        check_version(self.get_server_version(), uri)

    def __getattr__(self, name: str) -> Callable:
        return partial(self._ask, getattr(self._client, name))

    def pages(self, collection: str, **what: Any) -> Iterator[list[dict]]:
        """Rows in parts, as ``query_iterator`` reads them."""
        found = self.query_iterator(collection, **what)
        while page := self._ask(found.next):
            yield page
        found.close()

    def _ask(self, method: Callable, *args: Any, **kwargs: Any) -> Any:
        import grpc
        import pymilvus

        try:
            return method(*args, **kwargs)
        except (pymilvus.MilvusException, grpc.RpcError) as error:
            reason = error.message if isinstance(error, pymilvus.MilvusException) else error
            raise ConnectionError(
                f'the Milvus at {self._uri} fails ({reason}); it keeps what it has taken: once it '
                'runs again, do the same, which goes on from there'
            ) from error


def check_version(version: str, uri: str) -> None:
    """Refuses a server that lacks what is asked of it; Milvus Lite comes with the client.

    Raises:
        ValueError: If it is too old.
    """
    found = re.match(r'v?(\d+)\.(\d+)', version)
    if '://' in uri and found and tuple(map(int, found.groups())) < OLDEST:
        raise ValueError(f'the Milvus at {uri} is {version}, too old: start 2.3 or newer')


def _check_place(uri: str) -> None:
    """Refuses to let Milvus Lite, whose databases are folders, write beside other things."""
    path = Path(uri)
    if '://' in uri or not os.path.lexists(path):
        return
    if not path.is_dir() or (any(path.iterdir()) and not (path / 'collections').is_dir()):
        raise ValueError(f'{uri} exists and is not of Milvus Lite: give another name')
