"""Asks a running server, over the loopback interface alone."""

import json
import secrets
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any

from sen_toolbox.search.running.notice import Notice
from sen_toolbox.search.running.seal import ANSWERED, ASKED, NONCE, SEAL, TARGET, is_sealed, seal

# Seconds to say what it serves, and to search; with the model loaded neither takes a tenth.
HELLO_SECONDS, SEARCH_SECONDS = 1, 10
# Bytes; 10,000 results have some 3 MB.
LARGEST = 50_000_000


def ask(notice: Notice, served: Mapping[str, Any], asked: Mapping[str, Any]) -> dict | None:
    """A server's answer.

    The query is sent once the server has shown that it knows the key.

    Args:
        notice: Where it is.
        served: What it is to serve.
        asked: The query.

    Returns:
        None if nobody answers in time, or somebody else, or serves something else or refuses.
    """
    host = '::1' if notice.ipv6 else '127.0.0.1'
    connection = HTTPConnection(host, notice.port, timeout=HELLO_SECONDS)
    try:
        if _exchange(connection, notice.key, {}) != dict(served=served):
            return None
        connection.sock.settimeout(SEARCH_SECONDS)
        return _exchange(connection, notice.key, asked)
    except (OSError, HTTPException, ValueError, RecursionError):
        return None
    finally:
        connection.close()


def _exchange(connection: HTTPConnection, key: str, asked: Mapping[str, Any]) -> dict:
    body, nonce = json.dumps(asked).encode(), secrets.token_hex(16)
    headers = {
        'Content-Type': 'application/json',
        NONCE: nonce,
        SEAL: seal(key, ASKED, nonce, body),
    }
    connection.request('POST', TARGET, body, headers)
    response = connection.getresponse()
    content = response.read(LARGEST)
    if response.status != 200:
        raise ValueError(f'refused with {response.status}')
    if not is_sealed(response.headers.get(SEAL), key, ANSWERED, nonce, content):
        raise ValueError('this is not the server that wrote the notice')
    return json.loads(content)
