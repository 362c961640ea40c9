"""The web page under load: many clients at once, then clients that are slow on purpose.

An index of drawn people is served by ``sen-search serve`` in a process of its own, on this machine.
First --clients send searches, and ask for pictures and for the page, one request after the other,
half of them over a new connection each time. Then --slow clients send a byte a second while four
others go on searching; the server may open --slow-files files. The run fails if a request of a
client that is not slow failed, if the 95th percentile is above half a second, or if a slow client
was not dropped within 30 seconds. --command compares another server: it gets --index FOLDER and
prints its address in its first line.

The clients take processor time too: on two cores it can do more than the figures say.
"""

import asyncio
import json
import random
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from common import Report, arguments

WORDS = 'a woman man in red blue green black coat jacket jeans with backpack hat and long skirt'
LIMIT = 0.5  # seconds
DROPPED_WITHIN = 30
SIDE_CLIENTS = 4


class Tally:
    """What became of the requests."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.faults: Counter[str] = Counter()

    def percentile(self, share: float) -> float:
        """Seconds that this share of the requests took at most; infinite if there were none."""
        ordered = sorted(self.seconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 1e9


def request(path: str, body: dict | None = None, *, close: bool = False) -> bytes:
    """The bytes of a GET, or of a POST of JSON."""
    content = b'' if body is None else json.dumps(body).encode()
    lines = [f'{"GET" if body is None else "POST"} {path} HTTP/1.1', 'Host: localhost']
    if body is not None:
        lines += ['Content-Type: application/json', f'Content-Length: {len(content)}']
    if close:
        lines.append('Connection: close')
    return '\r\n'.join([*lines, '', '']).encode() + content


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and content of an answer."""
    head = (await reader.readuntil(b'\r\n\r\n')).decode('latin-1').lower()
    length = int(head.split('content-length: ')[1].split('\r\n')[0])
    return int(head.split()[1]), await reader.readexactly(length)


async def client(port: int, number: int, end: float, tally: Tally, pictures: list[str]) -> None:
    """Asks one thing after the other until the time is over."""
    rng = random.Random(number)
    keeps_open = number % 2 == 0
    reader = writer = None
    while time.monotonic() < end:
        kind = rng.random()
        if kind < 0.4:
            text = ' '.join(rng.choices(WORDS.split(), k=8))
            message = ('/api/search', dict(text=text, k=20))
        elif kind < 0.9 and pictures:
            message = (f'/picture/{rng.choice(pictures)}?size=small', None)
        else:
            message = (rng.choice(['/', '/page.js', '/api/gallery']), None)
        started = time.monotonic()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection('127.0.0.1', port)
            writer.write(request(*message, close=not keeps_open))
            status, content = await asyncio.wait_for(answer(reader), 60)
        except (TimeoutError, OSError, EOFError) as error:
            tally.faults[type(error).__name__] += 1
            writer = None
            continue
        tally.seconds.append(time.monotonic() - started)
        if status != 200:
            tally.faults[f'status {status}'] += 1
        elif kind < 0.4 and len(pictures) < 200:
            pictures += [result['id'] for result in json.loads(content)['results']]
        if not keeps_open:
            writer.close()
            writer = None


async def slow_client(port: int, number: int, end: float) -> float:
    """Seconds until the server drops a client that does not end its request for long."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection('127.0.0.1', port, limit=1)
    head, body = request('/api/search', dict(text='a man')).split(b'\r\n\r\n')
    trickle = [head + b'\r\n\r\n' + body[:3] + b' ' * 90, head + b'\r\nX: ' + b'y' * 90][number % 2]
    dropped = asyncio.create_task(reader.read())
    for byte in trickle:
        try:
            writer.write(bytes([byte]))
            await writer.drain()
        except OSError:
            break
        finished, _ = await asyncio.wait({dropped}, timeout=1)
        if finished or time.monotonic() > end:
            break
    seconds = time.monotonic() - started
    dropped.cancel()
    writer.close()
    return seconds


async def search_under(port: int, clients: int, seconds: float) -> Tally:
    """Lets so many clients ask for so long."""
    tally, pictures = Tally(), []
    end = time.monotonic() + seconds
    await asyncio.gather(*(client(port, n, end, tally, pictures) for n in range(clients)))
    return tally


async def search_beside_slow(port: int, slow: int) -> tuple[Tally, list[float]]:
    """Lets four clients ask beside slow ones; and after how many seconds those were dropped."""
    end = time.monotonic() + DROPPED_WITHIN + 10
    waiting = asyncio.gather(*(slow_client(port, n, end) for n in range(slow)))
    tally = await search_under(port, SIDE_CLIENTS, DROPPED_WITHIN + 10)
    return tally, await waiting


def serve(command: list[str], files: int) -> tuple[subprocess.Popen, int]:
    """Starts a server that may open so many files; returns it and its port."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=limit)
    line = server.stdout.readline()
    return server, int(line.rsplit(':', 1)[1].split('/')[0])


def peak_memory(process: subprocess.Popen) -> float:
    """Largest resident memory of a process so far, in MB."""
    status = Path(f'/proc/{process.pid}/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) / 1000


def main() -> None:
    args = arguments(
        __doc__, clients=64, seconds=60, slow=500, files=1024, slow_files=128, command=''
    )
    needed = args.clients + args.slow + 100
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, most), most))
    report = Report('the web page under load')
    with tempfile.TemporaryDirectory() as root:
        index = str(Path(root, 'index'))
        draw = (
            'from sen_toolbox.datasets.synthetic import write_synthetic_pedes;'
            f'write_synthetic_pedes({root!r}, num_ids=dict(train=60))'
        )
        cli = [sys.executable, '-m', 'sen_toolbox.search.cli']
        subprocess.run([sys.executable, '-c', draw], check=True)
        subprocess.run([*cli, 'index', f'{root}/imgs', '--index', index], check=True)
        command = shlex.split(args.command) or [*cli, 'serve', '--port', '0']
        command += ['--index', index]

        started = time.monotonic()
        server, port = serve(command, args.files)
        report.add('start, to the first line', time.monotonic() - started, None, 's')
        report.add('memory after the start', peak_memory(server), None, 'MB')
        tally = asyncio.run(search_under(port, args.clients, args.seconds))
        report.add('requests a second', len(tally.seconds) / args.seconds, None, '')
        report.add('median', 1000 * statistics.median(tally.seconds), None, 'ms')
        report.add('95th percentile', 1000 * tally.percentile(0.95), None, 'ms', goal='500')
        report.add('largest memory', peak_memory(server), None, 'MB')
        print(f'{len(tally.seconds)} requests; faults: {dict(tally.faults)}')
        report.check('every request answered', sum(tally.faults.values()), 0)
        report.check('95th percentile in seconds', tally.percentile(0.95), LIMIT)
        server.terminate()
        server.wait()

        server, port = serve(command, args.slow_files)
        tally, dropped = asyncio.run(search_beside_slow(port, args.slow))
        report.add(
            'beside slow clients: 95th percentile', 1000 * tally.percentile(0.95), None, 'ms'
        )
        report.add('slowest to be dropped', max(dropped), None, 's', goal='30')
        report.add('beside slow clients: largest memory', peak_memory(server), None, 'MB')
        print(f'{len(tally.seconds)} requests; faults: {dict(tally.faults)}')
        report.check('every request answered beside slow clients', sum(tally.faults.values()), 0)
        report.check('service went on beside slow clients', tally.percentile(0.95), LIMIT)
        report.check('every slow client dropped, after seconds', max(dropped), DROPPED_WITHIN)
        server.terminate()
        server.wait()
    report.finish(args.json)


if __name__ == '__main__':
    main()
