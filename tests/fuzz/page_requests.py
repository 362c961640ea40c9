"""Requests to the page over sockets, against the server itself."""

import json
import random
import re
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from test_web import token_of
from test_web_connections import AMBIGUOUS, GET, HIDDEN, POST, everything, mutated

from sen_toolbox.search import PersonSearch
from sen_toolbox.search.web.api import SearchApi
from sen_toolbox.search.web.server import PageServer

from .mutations import STRANGE, altered, mangled
from .outcome import require
from .small_models import description, model_file, weights

LINES = re.compile(rb'HTTP/1\.1 (\d{3}) [A-Za-z \-]+\r\n')
ASKED = dict(text='a man in a red coat', like='', right=[], k=3, within='/')
TIMES = {'from': 0, 'to': 9.5}
PATHS = [
    '/', '/page.js', '/api/gallery', '/picture/', '/api/search', '/favicon.ico', '/%00', '/?a=b',
    '/../../etc/passwd', '/page.css/..', '/picture/x?size=large', '/static/page.js',
]  # fmt: skip
SIZES = ['', '?size=large', '?size=%00', '?size=small&size=x']
CODES = {200, 400, 403, 404, 411, 413, 414, 415, 431, 501, 505}


class PageRequests:
    def __init__(self, samples: Path) -> None:
        self.samples = samples
        (samples / 'gallery').mkdir()
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 256, (40, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(samples / 'gallery' / f'{number}.png')
        shutil.copy(samples / 'gallery/0.png', samples / 'private.png')
        (samples / 'm.safetensors').write_bytes(model_file(weights(), description()))
        search = PersonSearch(samples / 'm.safetensors', index=samples / 'index')
        search.index(samples / 'gallery')
        self._server = PageServer(SearchApi(search), port=0)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.addresses = (('127.0.0.1', self._server.server_port),)
        found = json.loads(self._answers(self._post(ASKED))[0][1])['results']
        self._ids = [result['id'] for result in found]
        self._secret = (samples / 'private.png').read_bytes()
        self._expected = found
        self.hostile = {name: sent + HIDDEN for name, sent in AMBIGUOUS.items()}
        for path in (
            'private.png',
            'index/index.sqlite',
            'm.safetensors',
            'gallery/../private.png',
        ):
            self.hostile[path] = self._get(f'/picture/{token_of(samples / path)}')

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def mutant(self, rng: random.Random) -> bytes:
        """What a client sends."""
        kind = rng.randrange(6)
        if kind == 0:
            return mutated(rng)
        if kind == 1:
            return mangled(rng, self._post(ASKED), [GET, POST, *AMBIGUOUS.values()])
        if kind == 2:
            outside = map(token_of, ['/etc/passwd', self.samples / 'private.png'])
            token = rng.choice([*self._ids, *outside])
            changed = mangled(rng, token.encode()).decode('latin-1')
            path = rng.choice(['/picture/' + rng.choice([token, changed]), *PATHS])
            return self._get(path + rng.choice(SIZES))
        # JSON has no NaN.
        strange = [value for value in STRANGE if not isinstance(value, float) or value == value]
        asked = dict(text='a man', id=rng.choice(self._ids))
        if kind > 3:
            like = dict(like=rng.choice([*self._ids, '']), right=self._ids)
            asked = {**ASKED, **rng.choice([{}, TIMES]), **like}
        asked = altered(rng, asked, strange)
        body = json.dumps(asked).encode()
        if kind == 5:
            body = mangled(rng, body)
        return self._post(body, path='/api/words' if kind == 3 else '/api/search')

    def _post(self, asked: Any, path: str = '/api/search') -> bytes:
        body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
        head = f'POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
        return f'{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n'.encode() + body

    def _get(self, path: str) -> bytes:
        head = f'GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
        return head.encode('latin-1', 'replace')

    def _answers(self, sent: bytes) -> list[tuple[int, bytes]]:
        """Status and content of each answer until the server closes."""
        with socket.create_connection(self.addresses[0], timeout=25) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            told = everything(connection)
        answers = []
        while told:
            line = LINES.match(told)
            require(line, f'not an answer: {told[:200]!r}')
            head, _, rest = told.partition(b'\r\n\r\n')
            length = int(re.search(rb'Content-Length: (\d+)', head)[1])
            require(len(rest) >= length, f'{len(rest)} of {length} bytes')
            answers.append((int(line[1]), rest[:length]))
            told = rest[length:]
        return answers

    def check(self, sample: bytes, folder: Path) -> bool:
        answers = self._answers(sample)
        # One head is one request, whatever stands in a body.
        require(len(answers) <= 1 + sample.count(b'HTTP/1.'), f'{len(answers)} answers')
        for code, content in answers:
            told = f'{code}: {content[:300]!r}'
            require(code in CODES, told)
            require(b'Traceback' not in content and b'root:x:' not in content, told)
            require(self._secret not in content and b'SQLite format' not in content, told)
            if code != 200:
                error = json.loads(content)['error']
                require(error.isprintable() and len(error) < 2000, f'{error!r}')
        again = json.loads(self._answers(self._post(ASKED))[0][1])['results']
        require(again == self._expected, 'the page answers otherwise afterwards')
        return any(code != 200 for code, _ in answers)
