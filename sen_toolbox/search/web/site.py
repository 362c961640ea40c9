"""What the page's addresses lead to: its files, pictures and answers, without connections."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from sen_toolbox.messages import shown
from sen_toolbox.search.running.seal import TARGET
from sen_toolbox.search.web.api import SearchApi
from sen_toolbox.search.web.key import PageKey
from sen_toolbox.search.web.request import Head

if TYPE_CHECKING:
    from sen_toolbox.search.web.own_queries import OwnQueries

STATIC = {
    '/': ('index.html', 'text/html; charset=utf-8'),
    '/page.css': ('page.css', 'text/css; charset=utf-8'),
    '/page.js': ('page.js', 'text/javascript; charset=utf-8'),
}
# What a browser on this machine may call it, with or without the port.
OUR_NAMES = re.compile(r'(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]*)?', re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """What a client gets: status, content, its MIME type, and more headers."""

    code: int
    content: bytes
    kind: str
    headers: Mapping[str, str] = field(default_factory=dict)


def failure(code: int, message: str) -> Answer:
    """An error as the page understands it."""
    return Answer(code, json.dumps({'error': message}).encode(), 'application/json')


class Site:
    """Answers requests; safe to call from several threads.

    Args:
        api: What searches.
        key: What a browser must have; None for a page that this machine alone reaches, and under
            its own names.
        own: What answers queries of the user's own; they have a key of theirs.
    """

    def __init__(
        self, api: SearchApi, *, key: PageKey | None, own: 'OwnQueries | None' = None
    ) -> None:
        self._api, self._key, self._own = api, key, own

    def answer(self, head: Head, body: bytes) -> Answer:
        """The answer to a request; never raises."""
        try:
            if head.target == TARGET and self._own is not None:
                return self._own.answer(head, body)
            refusal = self._refusal(head)
            if refusal is not None:
                return refusal
            return self._get(head) if head.method == 'GET' else self._post(head, body)
        except ValueError as error:
            return failure(400, str(error))
        except KeyError as error:
            return failure(404, str(error.args[0]))
        except OSError as error:
            return failure(503, str(error))
        except Exception:
            # One request must not take the page from the others.
            logging.getLogger(__name__).exception('a request failed')
            return failure(500, 'something went wrong; the terminal of sen-search says what')

    def _refusal(self, head: Head) -> Answer | None:
        if self._key is not None:
            return None if self._key.is_in_cookie(head) else self._entrance(head, self._key)
        # A page elsewhere could give its own name our address and read the gallery.
        host = head.headers.get('host', '')
        if not OUR_NAMES.fullmatch(host):
            return failure(403, f'this page is served to this machine only, not as {shown(host)}')
        return None

    def _entrance(self, head: Head, key: PageKey) -> Answer:
        path, _, query = head.target.partition('?')
        if head.method == 'GET' and path == '/' and key.is_in_link(query):
            # To an address without the key, so that a screenshot or a bookmark does not tell it.
            headers = {'Location': '/', 'Set-Cookie': key.cookie}
            return Answer(303, b'', 'text/plain', headers)
        message = 'this page needs its key: open the whole link that sen-search serve has printed'
        if path == '/':
            return Answer(401, message.encode(), 'text/plain; charset=utf-8')
        return failure(401, message)

    def _get(self, head: Head) -> Answer:
        path, _, query = head.target.partition('?')
        if path in STATIC:
            name, kind = STATIC[path]
            return Answer(200, (Path(__file__).parent / 'static' / name).read_bytes(), kind)
        if path == '/api/gallery':
            return _success(self._api.gallery())
        if path == '/api/count':
            return _success(self._api.count())
        if path.startswith('/picture/'):
            size = parse_qs(query).get('size', ['small'])[0]
            token = path.removeprefix('/picture/')
            return Answer(200, self._api.picture(token, size), 'image/jpeg')
        if path.startswith('/whole/'):
            return Answer(200, self._api.whole(path.removeprefix('/whole/')), 'image/jpeg')
        raise KeyError('there is no such page')

    def _post(self, head: Head, body: bytes) -> Answer:
        # A form on another site cannot send this type without being asked first.
        kind = head.headers.get('content-type', '').partition(';')[0].strip().lower()
        if kind != 'application/json':
            return failure(415, 'requests are application/json')
        actions = {'/api/search': self._api.search, '/api/words': self._api.words}
        if head.target not in actions:
            raise KeyError('there is no such page')
        try:
            asked = json.loads(body, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise ValueError('the request is not JSON') from error
        if not isinstance(asked, dict):
            raise ValueError('a request is a JSON object')
        return _success(actions[head.target](asked))


def _refuse(constant: str) -> Any:
    raise ValueError(f'{constant} is not JSON')


def _success(content: dict) -> Answer:
    return Answer(200, json.dumps(content, allow_nan=False).encode(), 'application/json')
