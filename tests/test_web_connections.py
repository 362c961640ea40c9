"""Connections of the web page: two requests in one, slow clients, many of them, those that go."""

import http.client
import json
import os
import random
import re
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from sen_toolbox.search.web import server as server_module
from sen_toolbox.search.web.request import MAX_HEAD, RefusedError, take_head
from sen_toolbox.search.web.server import PageServer

GET = b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
POST = (
    b'POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
    b'Content-Length: 2\r\n'
)


class Api:
    """Answers without a model; ``gate`` holds answers back."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.searches = 0

    def search(self, asked):
        self.searches += 1
        self.begun.release()
        self.gate.wait(60)
        return dict(asked=asked)

    def words(self, asked):
        return dict(words=[])

    def gallery(self):
        return dict(persons=3)

    def picture(self, token, size):
        return bytes(3_000_000)


@pytest.fixture
def api():
    api = Api()
    yield api
    api.gate.set()


@contextmanager
def serving(api):
    server = PageServer(api, port=0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        api.gate.set()
        thread.join()
        server.server_close()


@pytest.fixture
def server(api):
    with serving(api) as server:
        yield server


def connect(server):
    return socket.create_connection(('127.0.0.1', server.server_port), timeout=60)


def everything(connection):
    """What arrives until the server closes; empty where it does so without a word."""
    try:
        return b''.join(iter(lambda: connection.recv(65536), b''))
    except ConnectionError:
        return b''


def status(server, path='/'):
    connection = http.client.HTTPConnection('127.0.0.1', server.server_port, timeout=60)
    connection.request('GET', path)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def until(condition):
    """Waits for what another thread does; a minute is never reached where it works."""
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


# One request is never two


HIDDEN = b'GET /api/gallery HTTP/1.1\r\nHost: localhost\r\n\r\n'
TWO_LENGTHS = POST + b'Content-Length: 50\r\n\r\n{}'
AMBIGUOUS = {
    'two lengths': TWO_LENGTHS,
    'two equal lengths': POST + b'Content-Length: 2\r\n\r\n{}',
    'a list of lengths': POST.replace(b'Length: 2', b'Length: 2, 2') + b'\r\n{}',
    'length and encoding': POST + b'Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'a signed length': POST.replace(b'Length: 2', b'Length: +2') + b'\r\n{}',
    'a length in hexadecimal': POST.replace(b'Length: 2', b'Length: 0x2') + b'\r\n{}',
    'a GET with a body': GET[:-2] + b'Content-Length: %d\r\n\r\n' % len(HIDDEN),
    'a GET with an encoding': GET[:-2] + b'Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'a space before the colon': POST.replace(b'Length:', b'Length :') + b'\r\n',
    'a folded header': GET[:-2] + b' more\r\n\r\n',
    'a bare line feed': GET[:-2] + b'A: b\nC: d\r\n\r\n',
    'a bare carriage return': GET[:-2] + b'A: b\rC: d\r\n\r\n',
    'a zero byte': GET[:-2] + b'A: b\0\r\n\r\n',
    'a header without a colon': GET[:-2] + b'A\r\n\r\n',
    'a header without a name': GET[:-2] + b': A\r\n\r\n',
    'two hosts': GET[:-2] + b'Host: evil.example\r\n\r\n',
    'two spaces': GET.replace(b'GET ', b'GET  '),
    'an empty line first': b'\r\n' + GET,
    'an address elsewhere': GET.replace(b' / ', b' http://evil.example/ '),
}


@pytest.mark.parametrize('sent', AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_could_be_two_requests_is_refused_once_and_the_connection_closed(server, api, sent):
    with connect(server) as connection:
        connection.sendall(sent + HIDDEN)
        answer = everything(connection)
    assert answer.startswith(b'HTTP/1.1 400 ')
    assert answer.count(b'HTTP/1.1') == 1
    assert b'Connection: close' in answer
    assert b'persons' not in answer
    assert api.searches == 0


def test_requests_one_behind_the_other_are_answered_in_their_order(server):
    with connect(server) as connection:
        connection.sendall(HIDDEN + POST + b'\r\n{}' + GET[:-2] + b'Connection: close\r\n\r\n')
        answer = everything(connection)
    assert answer.count(b'HTTP/1.1 200 OK') == 3
    assert answer.index(b'"persons"') < answer.index(b'"asked"') < answer.index(b'<!doctype html')


def test_a_client_of_an_older_http_gets_one_answer(server):
    with connect(server) as connection:
        connection.sendall(b'GET /api/gallery HTTP/1.0\r\nHost: localhost\r\n\r\n')
        assert b'{"persons": 3}' in everything(connection)


@pytest.mark.parametrize('size', [1, 3, 7, 1000])
def test_a_request_in_pieces_is_that_in_one(size):
    message = POST + b'X: y\r\n\r\n{}'
    buffer, heads = bytearray(), []
    for start in range(0, len(message), size):
        buffer += message[start : start + size]
        heads.append(take_head(buffer))
    [head] = [head for head in heads if head]
    assert (head.method, head.target, head.length) == ('POST', '/api/search', 2)
    assert head.headers['x'] == 'y'
    assert bytes(buffer) == b'{}'


def mutated(rng):
    """A request with a few bytes changed, doubled, lost or taken from elsewhere."""
    message = bytearray(rng.choice([GET, POST + b'\r\n', TWO_LENGTHS[:-2], HIDDEN]))
    pieces = [b'\r', b'\n', b'\r\n', b':', b' ', b'\t', b'\0', b',', b'Content-Length: 3\r\n']
    pieces += [b'Transfer-Encoding: chunked\r\n', b'\xff', b'HTTP/1.1', b'\x0b', b'Host: a\r\n']
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(message))
        if rng.random() < 0.3:
            del message[place : place + rng.randint(1, 4)]
        else:
            message[place : place + rng.randint(0, 1)] = rng.choice(pieces)
    return bytes(message)


def test_whatever_is_read_as_a_request_another_reader_reads_alike():
    h11 = pytest.importorskip('h11')
    rng = random.Random(0)
    compared = 0
    for _ in range(3000):
        message = mutated(rng)
        try:
            buffer = bytearray(message)
            head = take_head(buffer)
        except RefusedError:
            continue
        if head is None:
            assert b'\r\n\r\n' not in message
            continue
        other = h11.Connection(h11.SERVER)
        other.receive_data(message)
        try:
            event = other.next_event()
        except h11.RemoteProtocolError as error:
            # A missing host is refused with another status.
            assert 'Host' in str(error) or 'illegal' in str(error), message
            continue
        compared += 1
        assert (event.method.decode(), event.target.decode()) == (head.method, head.target)
        theirs = dict(event.headers)
        assert int(theirs.get(b'content-length', 0)) == head.length
        assert theirs.get(b'host', b'').decode('latin-1') == head.headers.get('host', '')
        assert b'transfer-encoding' not in theirs
    assert compared > 200


def test_a_head_that_does_not_end_is_refused_before_it_takes_memory():
    for start, code in ((b'GET /', 414), (GET[:-2] + b'X: ', 431)):
        assert take_head(bytearray(start + b'a' * 100)) is None
        with pytest.raises(RefusedError) as refused:
            take_head(bytearray(start + b'a' * MAX_HEAD))
        assert refused.value.code == code


# Slow clients


BODY = POST.replace(b'Length: 2', b'Length: 9999') + b'\r\n{'


@pytest.mark.parametrize('start', [b'G', BODY, GET + b'G'], ids=['head', 'body', 'next'])
def test_a_client_that_sends_a_byte_now_and_then_is_dropped_in_time(server, monkeypatch, start):
    monkeypatch.setattr(server_module, 'REQUEST_SECONDS', 0.3)
    with connect(server) as connection:
        connection.sendall(start)
        # The answer to a whole request that may stand before.
        if start.startswith(GET):
            connection.recv(1_000_000)
        dropped = False
        for _ in range(6000):
            try:
                connection.sendall(b' ' if b'{' in start else b'E')
            except ConnectionError:
                dropped = True
                break
            time.sleep(0.01)
    assert dropped
    assert until(lambda: not server._connections)


def test_a_client_that_does_not_take_its_answer_is_dropped_in_time(server, monkeypatch):
    monkeypatch.setattr(server_module, 'ANSWER_SECONDS', 0.3)
    with connect(server) as connection:
        for _ in range(4):
            connection.sendall(GET.replace(b' / ', b' /picture/x '))
        assert until(lambda: server._connections)
        assert until(lambda: not server._connections)
        assert status(server) == 200


def test_many_slow_clients_take_neither_the_service_nor_threads(api, monkeypatch):
    monkeypatch.setattr(server_module, 'MAX_CONNECTIONS', 20)
    with serving(api) as server:
        threads = threading.active_count()
        slow = [connect(server) for _ in range(60)]
        for connection in slow:
            connection.sendall(b'GET / HTTP/1.1\r\nHo')
            assert status(server) == 200
        assert len(server._connections) <= 22
        assert threading.active_count() <= threads + server_module.WORKERS
        # Those that came first were dropped, the last one is still there.
        assert everything(slow[0]) == b''
        slow[-1].sendall(b'st: localhost\r\nConnection: close\r\n\r\n')
        assert everything(slow[-1]).startswith(b'HTTP/1.1 200 ')
        for connection in slow:
            connection.close()
        assert until(lambda: not server._connections)


def test_those_dropped_before_they_were_looked_at_are_forgotten_too(api, monkeypatch):
    monkeypatch.setattr(server_module, 'MAX_CONNECTIONS', 5)
    with serving(api) as server:
        # All at once, so that some are dropped before their turn.
        with ThreadPoolExecutor(16) as pool:
            connections = list(pool.map(lambda _: connect(server), range(200)))
        assert until(lambda: len(server._connections) <= 5)
        assert sum(c.since is None for c in server._connections) == 0
        for connection in connections:
            connection.close()
        assert until(lambda: not server._connections)


def test_while_all_wait_for_answers_others_are_told_to_come_back(api, monkeypatch):
    monkeypatch.setattr(server_module, 'MAX_CONNECTIONS', 3)
    with serving(api) as server:
        api.gate.clear()
        waiting = [connect(server) for _ in range(3)]
        for connection in waiting:
            connection.sendall(POST + b'Connection: close\r\n\r\n{}')
            assert api.begun.acquire(timeout=60)
        with connect(server) as another:
            assert everything(another).startswith(b'HTTP/1.1 503 ')
        api.gate.set()
        for connection in waiting:
            assert b'"asked"' in everything(connection)
            connection.close()


def test_few_file_descriptors_mean_few_connections(monkeypatch):
    for files, limit in ((1024, 256), (128, 64), (70, 8), (resource.RLIM_INFINITY, 256)):
        monkeypatch.setattr(resource, 'getrlimit', lambda _, files=files: (files, files))
        assert server_module._connection_limit() == limit


def test_a_lack_of_file_descriptors_passes(api, monkeypatch, caplog, capfd):
    with serving(api) as server:
        assert status(server) == 200
        used = len(os.listdir('/proc/self/fd'))
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        clients = [socket.socket() for _ in range(12)]
        # The lowest free numbers: six for the connections of twelve clients.
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12 + 6, before[1]))
        try:
            for client in clients:
                client.settimeout(60)
                client.connect(('127.0.0.1', server.server_port))
            # The last one is served because those before it are dropped.
            clients[-1].sendall(GET)
            assert clients[-1].recv(9) == b'HTTP/1.1 '
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for client in clients:
            client.close()
    assert 'Traceback' not in caplog.text + ''.join(capfd.readouterr())


# Many, and those that go


def test_sixty_four_clients_at_once_are_all_answered(server):
    def ask(number):
        connection = http.client.HTTPConnection('127.0.0.1', server.server_port, timeout=60)
        answers = []
        for turn in range(4):
            body = json.dumps(dict(text=f'{number} {turn}'))
            connection.request('POST', '/api/search', body, {'Content-Type': 'application/json'})
            response = connection.getresponse()
            answers.append((response.status, json.loads(response.read())['asked']['text']))
            if turn % 2:
                connection.close()
        connection.close()
        return answers

    with ThreadPoolExecutor(64) as pool:
        for number, answers in enumerate(pool.map(ask, range(64))):
            assert answers == [(200, f'{number} {turn}') for turn in range(4)]


def test_clients_that_go_leave_no_word_on_the_terminal(server, api, caplog, capfd):
    api.gate.clear()
    for path in (b' /picture/x ', b' / '):
        for _ in range(5):
            with connect(server) as connection:
                connection.sendall(GET.replace(b' / ', path))
                # Closed with a reset, as a browser does whose page is left.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + [0] * 7))
    with connect(server) as connection:
        connection.sendall(POST + b'\r\n{}')
        assert api.begun.acquire(timeout=60)
    api.gate.set()
    assert status(server) == 200
    assert until(lambda: not server._connections)
    assert caplog.text == ''
    assert capfd.readouterr() == ('', '')


def test_an_answer_has_one_head_of_plain_lines(server):
    with connect(server) as connection:
        connection.sendall(GET[:-2] + b'Connection: close\r\n\r\n')
        head = everything(connection).split(b'\r\n\r\n')[0].decode()
    lines = head.split('\r\n')
    assert lines[0] == 'HTTP/1.1 200 OK'
    assert all(re.fullmatch(r'[A-Za-z-]+: [!-~][ -~]*', line) for line in lines[1:])
    assert len({line.split(':')[0] for line in lines[1:]}) == len(lines) - 1
