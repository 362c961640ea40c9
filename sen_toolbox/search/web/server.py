"""The page over HTTP, by Python's own server: no dependency, no request to anywhere else."""

import ipaddress
import json
import logging
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from urllib.parse import parse_qs, urlsplit

from sen_toolbox.search.web.api import SearchApi

STATIC = {
    '/': ('index.html', 'text/html; charset=utf-8'),
    '/page.css': ('page.css', 'text/css; charset=utf-8'),
    '/page.js': ('page.js', 'text/javascript; charset=utf-8'),
}
# A request holds a description and up to a hundred ids of a few hundred characters.
MAX_BODY = 100_000
# Seconds that a silent client keeps its thread.
PATIENCE = 20
HEADERS = {
    # The page's own files only: what a file name might smuggle in would not run.
    'Content-Security-Policy': "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
}


class PageServer(ThreadingHTTPServer):
    """Serves the page until it is shut down.

    Args:
        api: What answers.
        host: Address to listen on.
        port: Its port; 0 for any that is free, see ``server_port``.
    """

    daemon_threads = True

    def __init__(self, api: SearchApi, *, host: str = '127.0.0.1', port: int = 8765) -> None:
        self.api = api
        if ':' in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)
        self.is_local = ipaddress.ip_address(self.server_address[0]).is_loopback

    def server_bind(self) -> None:
        """Binds without looking up the name of this machine, which may ask the network."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server_version, sys_version = 'sen-search', ''
    timeout = PATIENCE
    server: PageServer

    def do_GET(self) -> None:  # noqa: N802, the name that http.server calls
        """A file of the page, what is known of the gallery, or a picture."""
        self._answer(self._get)

    def do_POST(self) -> None:  # noqa: N802
        """A search, or the regions of words."""
        self._answer(self._post)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the terminal quiet; descriptions of people belong in no log."""

    def _answer(self, act: Callable[[], tuple[int, bytes, str]]) -> None:
        try:
            answer = self._refusal() or act()
        except ValueError as error:
            answer = _failure(400, str(error))
        except KeyError as error:
            answer = _failure(404, str(error.args[0]))
        except OSError as error:
            answer = _failure(503, str(error))
        except Exception:
            # One request must not take the page from the others.
            logging.getLogger(__name__).exception('a request failed')
            answer = _failure(500, 'something went wrong; the terminal of sen-search says what')
        code, content, kind = answer
        if code >= 400:
            # Some of the request may not have been read.
            self.close_connection = True
        self.send_response(code)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(content)))
        cached = 'private, max-age=60' if kind == 'image/jpeg' else 'no-store'
        self.send_header('Cache-Control', cached)
        if self.close_connection:
            self.send_header('Connection', 'close')
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _refusal(self) -> tuple[int, bytes, str] | None:
        # A page elsewhere could give its own name our address and read the gallery.
        host = urlsplit(f'//{self.headers.get("Host", "")}').hostname or ''
        if self.server.is_local and host not in ('localhost', '127.0.0.1', '::1'):
            return _failure(403, f'this page is served to this machine only, not as {host!r}')
        return None

    def _get(self) -> tuple[int, bytes, str]:
        address = urlsplit(self.path)
        if address.path in STATIC:
            name, kind = STATIC[address.path]
            return 200, (Path(__file__).parent / 'static' / name).read_bytes(), kind
        if address.path == '/api/gallery':
            return _success(self.server.api.gallery())
        if address.path.startswith('/picture/'):
            size = parse_qs(address.query).get('size', ['small'])[0]
            token = address.path.removeprefix('/picture/')
            return 200, self.server.api.picture(token, size), 'image/jpeg'
        raise KeyError('there is no such page')

    def _post(self) -> tuple[int, bytes, str]:
        # A form on another site cannot send this type without being asked first.
        if self.headers.get_content_type() != 'application/json':
            return _failure(415, 'requests are application/json')
        length = self.headers.get('Content-Length', '')
        if not (length.isascii() and length.isdigit()):
            return _failure(411, 'a request says its length')
        if len(length) > 9 or int(length) > MAX_BODY:
            return _failure(413, f'a request has at most {MAX_BODY} bytes')
        actions = {'/api/search': self.server.api.search, '/api/words': self.server.api.words}
        if self.path not in actions:
            raise KeyError('there is no such page')
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise ValueError('the request is no JSON') from error
        if not isinstance(asked, dict):
            raise ValueError('a request is a JSON object')
        return _success(actions[self.path](asked))


def _success(content: dict) -> tuple[int, bytes, str]:
    return 200, json.dumps(content, allow_nan=False).encode(), 'application/json'


def _failure(code: int, message: str) -> tuple[int, bytes, str]:
    return code, json.dumps({'error': message}).encode(), 'application/json'
