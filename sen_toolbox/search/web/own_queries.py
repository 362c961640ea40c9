"""Answers ``sen-search query`` of the user that runs the server."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from sen_toolbox.pictures import decode_image
from sen_toolbox.search.images import MAX_PIXELS
from sen_toolbox.search.running.seal import ANSWERED, ASKED, NONCE, SEAL, is_sealed, seal
from sen_toolbox.search.web.api import SearchApi
from sen_toolbox.search.web.request import Head
from sen_toolbox.search.web.site import Answer, failure


class OwnQueries:
    """Answers whoever knows the key; everybody else is told that there is no such page.

    Args:
        api: What searches.
        key: The key.
        served: What it searches, for queries that want something else.
    """

    def __init__(self, api: SearchApi, key: str, served: Mapping[str, Any]) -> None:
        self._api, self._key, self._served = api, key, dict(served)

    def answer(self, head: Head, body: bytes) -> Answer:
        """The answer to a request: of a query its results, of an empty object what is served.

        Raises:
            ValueError: If the query makes no sense; whoever asked finds the reason by himself.
        """
        nonce = head.headers.get(NONCE, '')
        if not is_sealed(head.headers.get(SEAL), self._key, ASKED, nonce, body):
            return failure(404, 'there is no such page')
        asked = json.loads(body)
        found = self._results(asked) if asked else dict(served=self._served)
        content = json.dumps(found).encode()
        sealed = {SEAL: seal(self._key, ANSWERED, nonce, content)}
        return Answer(200, content, 'application/json', sealed)

    def _results(self, asked: dict[str, Any]) -> dict[str, Any]:
        picture = asked.pop('picture')
        if picture is not None:
            picture = decode_image(base64.b64decode(picture, validate=True), MAX_PIXELS)
        results, remarks = self._api.query(image=picture, **asked)
        return dict(results=[vars(result) for result in results], remarks=remarks)
