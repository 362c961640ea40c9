"""A file's digest that stands in the file itself; something else is in its place until then."""

import hashlib
from collections.abc import Mapping
from typing import Any

SEAL = 'sha256'
# What is there until the digest is known, as long as one; nothing else in a file is equal to it.
OPEN = hashlib.sha256(b'sen_toolbox').hexdigest()


def seal(content: bytes) -> bytes:
    """The content with its digest where the first ``OPEN`` stands, which its maker has written."""
    return content.replace(OPEN.encode(), hashlib.sha256(content).hexdigest().encode(), 1)


def check_seal(content: bytes, description: Mapping[str, Any]) -> None:
    """Compares a content with the digest that the description in it tells, if it tells one.

    Raises:
        ValueError: If they differ.
    """
    told = description.get(SEAL)
    if told is None:
        return
    place = content.find(told.encode()) if isinstance(told, str) and len(told) == len(OPEN) else -1
    digest = hashlib.sha256(content[: max(place, 0)])
    digest.update(OPEN.encode())
    digest.update(memoryview(content)[place + len(OPEN) :])
    if place < 0 or digest.hexdigest() != told:
        raise ValueError('its content does not have the SHA-256 with which it was written')
