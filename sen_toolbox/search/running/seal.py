"""Seals on what a query and a server tell each other; only the two of them know the key.

After a server has been killed, any user's program may listen on its port.
"""

import hashlib
import hmac

# Where queries are asked, and the headers of number and seal.
TARGET = '/api/query'
NONCE, SEAL = 'x-sen-nonce', 'x-sen-seal'
ASKED, ANSWERED = 'asked', 'answered'


def seal(key: str, side: str, nonce: str, body: bytes) -> str:
    """The seal of a message.

    Args:
        key: That of the notice.
        side: ``ASKED`` or ``ANSWERED``.
        nonce: Drawn by the query for this message and its answer.
        body: The message.
    """
    parts = b'\0'.join([side.encode(), nonce.encode(), body])
    return hmac.new(key.encode(), parts, hashlib.sha256).hexdigest()


def is_sealed(given: str | None, key: str, side: str, nonce: str, body: bytes) -> bool:
    """Whether this is the seal of a message."""
    expected = seal(key, side, nonce, body)
    return hmac.compare_digest(expected.encode(), (given or '').encode(errors='replace'))
