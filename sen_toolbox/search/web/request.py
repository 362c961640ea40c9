"""One HTTP request, read strictly: what another program might read differently is refused.

The page sends GET, and POST with a length. Chunked bodies, bodies of GET, repeated lengths, folded
lines, bare line feeds and the like have no use here; where two programs disagree about them, one
request is taken for two.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sen_toolbox.search.running.seal import TARGET

# Bytes; a picture's address has an id of a few hundred characters, cookies are not ours.
MAX_HEAD = 32_768
MAX_HEADERS = 100
# A request holds a description and up to a hundred ids of a few hundred characters; a search may
# hold a picture, too: the page makes it smaller than this, a query searches by itself with others.
MAX_BODY = 100_000
LARGER_BODIES = {'/api/search': 2_000_000, TARGET: 2_000_000}
METHODS = ('GET', 'POST')

_FIRST_LINE = re.compile(rb'([A-Z]{1,20}) ([!-~]+) HTTP/([0-9])\.([0-9])')
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_END = b'\r\n\r\n'


class RefusedError(Exception):
    """A request that gets an error for an answer; the connection is then closed.

    Args:
        code: Status.
        message: What is wrong, for people to read.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Head:
    """What stands before the body of a request.

    Attributes:
        method: GET or POST.
        target: Path and query, from the first slash.
        headers: By name in lower case.
        length: Bytes of the body.
        keeps_open: Whether the client may send another request.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    length: int
    keeps_open: bool


def take_head(buffer: bytearray) -> Head | None:
    """Takes the head of a request from what has arrived; None if it is not all there yet.

    Raises:
        RefusedError: If it is not a request of this page.
    """
    end = buffer.find(_END, 0, MAX_HEAD)
    if end < 0:
        if len(buffer) < MAX_HEAD:
            return None
        if b'\r\n' in buffer[:MAX_HEAD]:
            raise RefusedError(431, 'the head of a request is too long')
        raise RefusedError(414, 'the address is too long')
    lines = bytes(buffer[:end]).split(b'\r\n')
    del buffer[: end + len(_END)]
    return _parsed(lines)


def _parsed(lines: list[bytes]) -> Head:
    first = _FIRST_LINE.fullmatch(lines[0])
    if first is None:
        raise RefusedError(400, 'this is not a request of HTTP')
    method, target, major, minor = (part.decode() for part in first.groups())
    if major != '1':
        raise RefusedError(505, 'this server speaks HTTP 1')
    if method not in METHODS:
        raise RefusedError(501, f'there is no {method} here')
    if not target.startswith('/'):
        raise RefusedError(400, 'an address begins with a slash')
    headers = _headers(lines[1:])
    limit = LARGER_BODIES.get(target, MAX_BODY)
    length = _length(method, headers, limit)
    tokens = {token.strip().lower() for token in headers.get('connection', '').split(',')}
    return Head(method, target, headers, length, minor != '0' and 'close' not in tokens)


def _headers(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > MAX_HEADERS:
        raise RefusedError(431, f'a request has at most {MAX_HEADERS} headers')
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise RefusedError(400, 'a header is malformed')
        name, value = match[1].decode().lower(), match[2].decode('latin-1').strip(' \t')
        if name in headers and name in ('host', 'content-length', 'content-type'):
            raise RefusedError(400, f'there are two headers {name}')
        headers[name] = f'{headers[name]}, {value}' if name in headers else value
    return headers


def _length(method: str, headers: Mapping[str, str], limit: int) -> int:
    length, coding = headers.get('content-length'), headers.get('transfer-encoding')
    if length is not None and coding is not None:
        raise RefusedError(400, 'a request has a length or an encoding, not both')
    if method == 'GET':
        if coding is not None or length not in (None, '0'):
            raise RefusedError(400, 'a GET has no body')
        return 0
    if length is None:
        raise RefusedError(411, 'a request says its length')
    if not (length.isascii() and length.isdigit()):
        raise RefusedError(400, 'the length of a request is a whole number')
    # Python refuses to read numbers of thousands of digits.
    if len(length) > 9 or int(length) > limit:
        raise RefusedError(413, f'a request has at most {limit} bytes')
    return int(length)
