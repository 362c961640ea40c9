"""The key of a page that other machines reach: a link carries it once, then a cookie."""

import hmac
import secrets
from urllib.parse import parse_qs

from sen_toolbox.search.web.request import Head


class PageKey:
    """A secret that is drawn anew for each page.

    Args:
        port: The page's port; browsers send a cookie to all ports of a machine.
    """

    def __init__(self, port: int) -> None:
        self.secret = secrets.token_urlsafe(32)
        self._cookie = f'sen_search_{port}'

    @property
    def cookie(self) -> str:
        """What a browser is to keep: no script gets at it, no request of another site has it."""
        return f'{self._cookie}={self.secret}; Path=/; HttpOnly; SameSite=Lax'

    def is_in_cookie(self, head: Head) -> bool:
        """Whether a request comes from a browser that has opened the link."""
        parts = head.headers.get('cookie', '').replace(',', ';').split(';')
        pairs = [part.strip().partition('=') for part in parts]
        return any(self._is(value) for name, _, value in pairs if name == self._cookie)

    def is_in_link(self, query: str) -> bool:
        """Whether the part of an address after the question mark has the key."""
        return any(self._is(value) for value in parse_qs(query).get('key', ()))

    def _is(self, value: str) -> bool:
        # In a time that does not tell how many characters are right.
        return hmac.compare_digest(value.encode(errors='replace'), self.secret.encode())
