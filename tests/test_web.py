"""The web page: what it answers, what it refuses, and itself in a browser."""

import base64
import http.client
import io
import json
import os
import re
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import cv2
import numpy as np
import pytest
from PIL import Image

from sen_toolbox.search import PersonSearch
from sen_toolbox.search.cli import main
from sen_toolbox.search.commands import serve
from sen_toolbox.search.index import Entry, FileState
from sen_toolbox.search.web.api import FEEDBACK, MAX_TEXT, SearchApi
from sen_toolbox.search.web.request import LARGER_BODIES, MAX_BODY
from sen_toolbox.search.web.server import PageServer

QUERY = 'a woman in a red coat'
POST_HEAD = b'POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
EVIL = '<img src=x onerror=document.title="broken">.png'


@pytest.fixture(scope='module')
def search(made, tmp_path_factory):
    """Two folders, a name that is HTML and one that is no text, and crops of a video."""
    root = tmp_path_factory.mktemp('gallery')
    shutil.copytree(made / 'crops', root / 'a')
    (root / 'b').mkdir()
    for number, name in enumerate([EVIL, 'caf\udce9.png']):
        shutil.copy(made / 'crops' / f'{number}.png', root / 'b' / name)
    search = PersonSearch(made / 'm.safetensors', index=root / 'index')
    search.index([root / 'a', root / 'b'], ids={root / 'a' / '1.png': 7})
    add_video(search, root / 'c' / 'film.avi')
    search.root = root
    return search


def add_video(search, path, frames=(0, 600, 1200)):
    """Three crops of a film of ten frames a second, as a detector would leave them."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(3, search.encoder.model_id.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    entries = []
    for number, frame in enumerate(frames):
        crop = search.gallery.folder / 'crops' / f'{number}.jpg'
        crop.parent.mkdir(exist_ok=True)
        Image.new('RGB', (40, 90), (80 * number, 90, 60)).save(crop)
        place = dict(frame=frame, time=frame / 10, box=[1, 2, 41, 92], score=0.9)
        entries.append(Entry(str(path), None, dict(place, crop=crop.name)))
    with search.gallery.writing():
        search.gallery.write({str(path): FileState(1, 1, 'x')}, entries, vectors)


@pytest.fixture(scope='module')
def api(search):
    return SearchApi(search)


@contextmanager
def serving(api, **options):
    server = PageServer(api, port=0, **options)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope='module')
def server(api):
    with serving(api) as server:
        yield server


@pytest.fixture
def call(server):
    """Sends a request; returns status, headers and content."""

    def send(method, path, body=None, headers=None):
        connection = http.client.HTTPConnection('127.0.0.1', server.server_port, timeout=30)
        if isinstance(body, dict):
            body, headers = (
                json.dumps(body),
                {'Content-Type': 'application/json', **(headers or {})},
            )
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.headers, content

    return send


def ask(call, path, body):
    status, _, content = call('POST', path, body)
    return status, json.loads(content)


def names(answer):
    return [os.path.basename(result['path']) for result in answer['results']]


def test_the_page_finds_what_python_finds(search, call):
    expected = search.search(QUERY, k=6)
    status, answer = ask(call, '/api/search', dict(text=QUERY, k=6))
    assert status == 200
    assert [r['path'] for r in answer['results']] == [r.path for r in expected]
    scores = [r['score'] for r in answer['results']]
    assert scores == pytest.approx([r.score for r in expected], abs=1e-4)
    assert {r['identity'] for r in answer['results']} == {'7', None}
    assert all(r['missing'] != os.path.exists(r['path']) for r in answer['results'])


def test_a_person_is_searched_by_and_joined_with_words(search, api):
    path = search.root / 'a' / '3.png'
    everyone = api.search(dict(text=QUERY))['results']
    chosen = next(r['id'] for r in everyone if r['path'] == str(path))
    first = api.search(dict(like=chosen, k=1))['results'][0]
    assert (first['path'], first['score']) == (str(path), pytest.approx(1, abs=1e-3))
    both = api.search(dict(like=chosen, text=QUERY, k=20))['results']
    expected = search.search(QUERY, path, k=20)
    # The page takes the vector of the index, in half precision: those that are as like may be in
    # another order.
    scores = {(r['path'], r['place'].get('time')): r['score'] for r in both}
    assert len(scores) == len(both) == len(expected) > 5
    assert scores == pytest.approx(
        {(str(r.path), r.place.get('time')): r.score for r in expected}, abs=1e-3
    )
    assert both[0]['score'] == pytest.approx(expected[0].score, abs=1e-4)


def test_a_picture_of_ones_own_is_searched_by(search, call):
    path = search.root / 'a' / '3.png'
    content = base64.b64encode(path.read_bytes()).decode()
    status, answer = ask(call, '/api/search', dict(picture=content, k=6))
    assert status == 200
    expected = search.search(image=path, k=6)
    assert [r['path'] for r in answer['results']] == [r.path for r in expected]
    both = ask(call, '/api/search', dict(picture=content, text=QUERY, k=1))[1]['results'][0]
    [expected] = search.search(QUERY, path, k=1)
    assert (both['path'], both['score']) == (expected.path, pytest.approx(expected.score, abs=1e-3))


@pytest.mark.parametrize(
    ('picture', 'message'),
    [('@@', 'cannot be decoded'), ('AAAA', 'cannot be decoded: not one of JPEG'), (7, 'type str')],
)
def test_what_is_not_a_picture_is_refused_as_one(call, picture, message):
    status, answer = ask(call, '/api/search', dict(picture=picture))
    assert status == 400
    assert message in answer['error']


def test_only_a_search_may_be_as_large_as_a_picture(call):
    large = dict(text='x', more='y' * (MAX_BODY + 1))
    assert ask(call, '/api/search', large)[0] == 200
    assert ask(call, '/api/words', large)[0] == 413
    assert ask(call, '/api/search', dict(picture='y' * LARGER_BODIES['/api/search']))[0] == 413


def test_the_frame_of_a_video_is_shown_with_the_person_marked(made, tmp_path):
    path = tmp_path / 'film.avi'
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5, (120, 100))
    for number in range(7):
        film.write(np.full((100, 120, 3), 30 * number, np.uint8))
    film.release()
    search = PersonSearch(made / 'm.safetensors', index=tmp_path / 'index')
    search.index([made / 'crops'])
    add_video(search, path, frames=(0, 4, 9))
    results = SearchApi(search).search(dict(text=QUERY, k=20))['results']
    shown = {r['place']['frame']: r['id'] for r in results if r['place']}
    with serving(SearchApi(search)) as server:
        url = f'http://127.0.0.1:{server.server_port}/whole/'
        with urlopen(url + shown[4]) as response:
            pixels = np.asarray(Image.open(io.BytesIO(response.read())).convert('RGB'))
        with pytest.raises(HTTPError, match='404'):
            urlopen(url + shown[9])
    assert pixels.shape == (100, 120, 3)
    assert abs(pixels[95, 110].astype(int) - 120).max() < 6
    # The frame around the person is of the page's warm colour.
    red, green, blue = pixels[50, 1].astype(int)
    assert red > green + 60
    assert red > blue + 60


def test_the_number_of_persons_grows_while_another_process_indexes(made, tmp_path, search):
    index = tmp_path / 'index'
    here = PersonSearch(made / 'm.safetensors', index=index)
    here.index([search.root / 'b'])
    api = SearchApi(PersonSearch(made / 'm.safetensors', index=index))
    assert api.count() == dict(persons=2)
    here.index([search.root / 'a'])
    assert api.count() == dict(persons=2 + len(os.listdir(search.root / 'a')))
    assert len(api.search(dict(text=QUERY))['results']) == api.count()['persons']


def test_marked_persons_refine_the_query_by_rocchios_formula(search, api):
    everyone = api.search(dict(text=QUERY, k=20))['results']
    marked = everyone[2:4]
    means = [
        vector
        for entry, vector in search.gallery.items()
        if any(
            entry.path == r['path'] and entry.place.get('time') == r['place'].get('time')
            for r in marked
        )
    ]
    query = search.embed([QUERY])[0] + FEEDBACK * np.mean(means, axis=0)
    expected = search.search_vectors((query / np.linalg.norm(query))[None], k=20)[0]
    refined = api.search(dict(text=QUERY, k=20, right=[r['id'] for r in marked]))['results']
    assert [r['path'] for r in refined] == [r.path for r in expected]
    assert [r['score'] for r in refined] == pytest.approx([r.score for r in expected], abs=1e-4)
    assert refined[0]['score'] != everyone[0]['score']


def test_results_keep_to_a_folder(search, api):
    found = api.search(dict(text=QUERY, within=str(search.root / 'b')))
    assert sorted(names(found)) == sorted([EVIL, 'caf\udce9.png'])
    assert api.search(dict(text=QUERY, within='/etc'))['results'] == []


@pytest.mark.parametrize(
    ('span', 'times'),
    [
        (dict(to=60), [0, 60]),
        ({'from': 60}, [60, 120]),
        ({'from': 30, 'to': 90.5}, [60]),
        ({'from': 500}, []),
    ],
)
def test_results_keep_to_a_time(api, span, times):
    # One at a time, so that the filter has to ask for more than it was asked for.
    found = api.search(dict(text=QUERY, k=3, **span))['results']
    assert sorted(r['place']['time'] for r in found) == times
    assert len(api.search(dict(text=QUERY, k=1, **span))['results']) == min(1, len(times))


def test_the_gallery_tells_what_can_be_chosen(search, api):
    told = api.gallery()
    assert (told['persons'], told['model'], told['videos'], told['words']) == (10, 'm', True, True)
    assert told['folders'] == [str(search.root / name) for name in 'abc']
    assert told['root'] == str(search.root)


def test_pictures_are_of_the_persons_and_fit(api, call):
    for result in api.search(dict(text=QUERY, k=20))['results']:
        status, headers, content = call('GET', f'/picture/{result["id"]}?size=small')
        assert (status, headers['Content-Type']) == (200, 'image/jpeg')
        # Another site cannot embed it.
        assert headers['Cross-Origin-Resource-Policy'] == 'same-origin'
        image = Image.open(io.BytesIO(content))
        assert image.size == ((40, 90) if 'time' in result['place'] else (50, 120))


def test_words_have_effects_that_add_up_and_maps(search, api):
    person = api.search(dict(text=QUERY, k=1, within=str(search.root / 'a')))['results'][0]
    words = api.words(dict(text=f'{QUERY} &', id=person['id']))['words']
    # What has no letter or digit in it is not a word.
    assert [word['word'] for word in words] == QUERY.split()
    shorter = api.search(dict(text='a woman in a red &', k=20))['results']
    longer = api.search(dict(text=f'{QUERY} &', k=20))['results']
    [before], [after] = (
        [r['score'] for r in found if r['id'] == person['id']] for found in (shorter, longer)
    )
    effect = next(word['effect'] for word in words if word['word'] == 'coat')
    assert effect == pytest.approx(after - before, abs=3e-4)
    values = np.array([word['map'] for word in words])
    assert values.shape == (6, 16, 12)
    assert values.max() == 1


@pytest.mark.parametrize('text', ['\0', '%', '\udce9', '////'])
def test_a_text_without_words_has_no_maps(api, call, text):
    person = api.search(dict(text=QUERY, k=1))['results'][0]
    status, answer = ask(call, '/api/words', dict(text=text, id=person['id']))
    assert (status, answer) == (400, {'error': 'the description has no word in it'})


def test_an_exported_model_has_no_maps(search):
    class Exported:
        model_id = search.encoder.model_id

    other = SearchApi(PersonSearch(Exported(), index=search.gallery.folder))
    assert other.gallery()['words'] is False
    with pytest.raises(ValueError, match='an exported model shows no regions of words'):
        other.words(dict(text=QUERY, id='x'))


def token_of(path, place=b'{}'):
    return base64.urlsafe_b64encode(os.fsencode(path) + b'\0' + place).decode().rstrip('=')


def test_no_file_outside_the_gallery_is_served(search, api, call):
    outside = search.root / 'private.png'
    Image.new('RGB', (9, 9)).save(outside)
    inside = str(search.root / 'a' / '0.png')
    assert call('GET', f'/picture/{token_of(inside)}')[0] == 200
    for path in [
        outside,
        '/etc/passwd',
        f'{search.root}/a/../private.png',
        f'{search.root}/a/./0.png',
        f'{inside}/',
        'a/0.png',
        search.gallery.folder / 'index.sqlite',
        search.gallery.folder / 'crops' / '0.jpg',
    ]:
        status, _, content = call('GET', f'/picture/{token_of(path)}')
        assert (status, b'no such person' in content) == (404, True), path
    # A place of another file, and a crop that the index does not name.
    film = str(search.root / 'c' / 'film.avi')
    for place in (b'{}', b'{"crop": "../../private.png"}', b'{"crop": "/etc/passwd"}', b'', b'\0'):
        assert call('GET', f'/picture/{token_of(film, place)}')[0] == 404


@pytest.mark.parametrize(
    'path',
    [
        '/../../../../etc/passwd',
        '/..%2f..%2f..%2fetc/passwd',
        '/%2e%2e/%2e%2e/etc/passwd',
        '/....//....//etc/passwd',
        '//etc/passwd',
        '/page.js/../../api.py',
        '/static/page.js',
        '/page.js%00.png',
        '/index.html',
        '/picture/',
        '/picture/../api/gallery',
        '/picture/%2fetc%2fpasswd',
        '/picture/L2V0Yy9wYXNzd2Q',
        '/picture/AA',
        '/picture/====',
        '/picture/*',
        f'/picture/{"A" * 4000}',
        '/api',
        '/api/search',
        '/api/gallery/..',
        '/etc/passwd',
    ],
)
def test_addresses_that_lead_nowhere_are_not_found(call, path):
    status, headers, content = call('GET', path)
    assert (status, headers['Content-Type']) == (404, 'application/json')
    assert set(json.loads(content)) == {'error'}
    assert b'root:' not in content


def test_a_file_that_became_something_else_is_not_shown(made, tmp_path):
    (tmp_path / 'crops').mkdir()
    path = tmp_path / 'crops' / '0.png'
    shutil.copy(made / 'crops' / '0.png', path)
    search = PersonSearch(made / 'm.safetensors', index=tmp_path / 'index')
    search.index(tmp_path / 'crops')
    api = SearchApi(search)
    token = api.search(dict(text=QUERY))['results'][0]['id']
    path.unlink()
    path.symlink_to('/etc/passwd')
    with pytest.raises(KeyError, match='0.png cannot be decoded'):
        api.picture(token, 'small')
    path.unlink()
    with pytest.raises(KeyError, match='0.png cannot be read'):
        api.picture(token, 'small')


@pytest.mark.parametrize(
    ('body', 'message'),
    [
        (dict(), 'describe a person, or choose one'),
        (dict(text='  \n '), 'describe a person, or choose one'),
        (dict(text='red ' * 2500), f'has 9999 characters; write at most {MAX_TEXT}'),
        (dict(text='x' * 10_000), f'has 10000 characters; write at most {MAX_TEXT}'),
        (dict(text=7), 'text is of type str, got int'),
        (dict(text=['a man']), 'text is of type str, got list'),
        (dict(text={'a': 1}), 'text is of type str, got dict'),
        (dict(text=True), 'text is of type str, got bool'),
        (dict(text='a man', k=0), 'k is a number of results from 1 to 10000, got 0'),
        (dict(text='a man', k=-5), 'k is a number of results'),
        (dict(text='a man', k=10**30), 'k is a number of results'),
        (dict(text='a man', k=1.5), 'k is of type int, got float'),
        (dict(text='a man', k='10'), 'k is of type int, got str'),
        (dict(text='a man', k=True), 'k is of type int, got bool'),
        (dict(text='a man', right='x'), 'right is of type list, got str'),
        (dict(text='a man', right=[1]), 'right is a list of ids'),
        (dict(text='a man', right=['x'] * 101), 'at most 100 persons can be marked, got 101'),
        (dict(text='a man', within=['/']), 'within is of type str, got list'),
        (dict(text='a man', to='1:30'), 'to is of type float, got str'),
        ({'text': 'a man', 'from': True}, 'from is of type float, got bool'),
        ({'text': 'a man', 'from': 10**400}, 'from is a number of seconds, got one of 300 digits'),
        ({'text': 'a man', 'to': -(10**400)}, 'to is a number of seconds'),
        (dict(like=3), 'like is of type str, got int'),
    ],
)
def test_a_search_without_sense_is_refused_politely(call, body, message):
    status, answer = ask(call, '/api/search', body)
    assert (status, set(answer)) == (400, {'error'})
    assert message in answer['error']


@pytest.mark.parametrize('key', ['like', 'right'])
@pytest.mark.parametrize('token', ['x', '../../etc/passwd', 'L2V0Yy9wYXNzd2QAe30', '\udce9', '\0'])
def test_a_person_who_is_not_there_is_not_found(call, key, token):
    body = dict(text='a man', **{key: [token] if key == 'right' else token})
    status, answer = ask(call, '/api/search', body)
    assert (status, 'no such person' in answer['error']) == (404, True)


@pytest.mark.parametrize(
    'text',
    ['<script>alert(1)</script>', '\0', 'caf\udce9', '人' * 500, "'; DROP TABLE entries; --"],
)
def test_any_other_text_is_searched_for(call, text):
    status, answer = ask(call, '/api/search', dict(text=text, k=3))
    assert (status, len(answer['results'])) == (200, 3)


@pytest.mark.parametrize(
    ('body', 'headers', 'status'),
    [
        (b'', {}, 415),
        (b'{}', {'Content-Type': 'text/plain'}, 415),
        (b'text=a', {'Content-Type': 'application/x-www-form-urlencoded'}, 415),
        (b'{}', {'Content-Type': 'multipart/form-data; boundary=x'}, 415),
        (b'', {'Content-Type': 'application/json'}, 400),
        (b'{', {'Content-Type': 'application/json'}, 400),
        (b'[]', {'Content-Type': 'application/json'}, 400),
        (b'"text"', {'Content-Type': 'application/json'}, 400),
        (b'null', {'Content-Type': 'application/json'}, 400),
        (b'\xff\xfe\x00', {'Content-Type': 'application/json'}, 400),
        (b'{"text": NaN}', {'Content-Type': 'application/json'}, 400),
        (b'{"text": "a", "from": NaN}', {'Content-Type': 'application/json'}, 400),
        (b'[' * 50_000, {'Content-Type': 'application/json'}, 400),
        (b'{"k": 1' + b'0' * 5000 + b'}', {'Content-Type': 'application/json'}, 400),
    ],
)
def test_bodies_that_are_no_requests_are_refused(call, body, headers, status):
    found, _, content = call('POST', '/api/search', body, headers)
    assert found == status
    assert json.loads(content)['error']


@pytest.mark.parametrize(
    ('request_bytes', 'status'),
    [
        (b'NONSENSE\r\n\r\n', b'400'),
        (b'\x16\x03\x01\x02\x00\x01\x00\r\n\r\n', b'400'),
        (b'GET / HTTP/9.9\r\n\r\n', b'505'),
        (b'GET /' + b'a' * 70_000 + b' HTTP/1.1\r\n\r\n', b'414'),
        (b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ' + b'a' * 70_000 + b'\r\n\r\n', b'431'),
        (b'GET / HTTP/1.1\r\n' + b'X: y\r\n' * 200 + b'\r\n', b'431'),
        (b'DELETE / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n', b'501'),
        (b'PUT /page.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n', b'501'),
        (b'GET / HTTP/1.1\r\n\r\n', b'403'),
        (b'GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n', b'403'),
        (b'GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example:80\r\n\r\n', b'403'),
        (b'GET / HTTP/1.1\r\nHost: [::1\r\n\r\n', b'403'),
        (b'GET / HTTP/1.1\r\nHost: a@localhost\r\n\r\n', b'403'),
        (b'GET http://[ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n', b'400'),
        *(
            (
                POST_HEAD + header + b'\r\n\r\n',
                status,
            )
            for header, status in [
                (b'X: y', b'411'),
                (b'Content-Length: -5', b'400'),
                (b'Content-Length: five', b'400'),
                (b'Content-Length: \xb2', b'400'),
                (b'Transfer-Encoding: chunked', b'411'),
                (b'Content-Length: %d' % (LARGER_BODIES['/api/search'] + 1), b'413'),
                (b'Content-Length: ' + b'9' * 5000, b'413'),
            ]
        ),
    ],
)
def test_requests_that_are_no_http_are_refused_and_the_page_stays(
    server, call, request_bytes, status
):
    with socket.create_connection(('127.0.0.1', server.server_port), timeout=20) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        answer = b''.join(iter(lambda: connection.recv(65536), b''))
    assert status in answer[:200]
    assert b'Traceback' not in answer
    assert call('GET', '/')[0] == 200


def test_a_request_that_breaks_off_does_no_harm(server, call):
    for sent in (b'', b'GE', b'POST /api/search HTTP/1.1\r\nHost: localhost\r\n'):
        with socket.create_connection(('127.0.0.1', server.server_port), timeout=20) as connection:
            connection.sendall(sent)
    with socket.create_connection(('127.0.0.1', server.server_port), timeout=20) as connection:
        connection.sendall(POST_HEAD + b'Content-Length: 500\r\n\r\n{"text":')
        connection.shutdown(socket.SHUT_WR)
        assert b' 400 ' in connection.recv(65536)
    assert call('GET', '/api/gallery')[0] == 200


def test_many_at_once_get_their_own_answers(search, call):
    colours = 'red green blue black white grey brown yellow'.split()
    texts = [f'a woman in a {colour} coat' for colour in colours]
    expected = [[result.score for result in search.search(text, k=4)] for text in texts]
    # Two pictures are alike, so that their order is chance; the scores tell texts apart.
    assert all(max(map(abs, np.subtract(*pair))) > 1e-3 for pair in combinations(expected, 2))
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda text: ask(call, '/api/search', dict(text=text, k=4)), texts * 3)
        )
    for (status, answer), scores in zip(answers, expected * 3, strict=True):
        assert status == 200
        # Four digits are sent.
        assert [r['score'] for r in answer['results']] == pytest.approx(scores, abs=1e-4)


def test_a_fault_of_ours_is_one_answer_and_not_the_end(api, server, call, monkeypatch, caplog):
    monkeypatch.setattr(SearchApi, 'gallery', lambda self: 1 / 0)
    status, _, content = call('GET', '/api/gallery')
    assert (status, b'something went wrong' in content) == (500, True)
    assert 'ZeroDivisionError' in caplog.text
    monkeypatch.undo()
    assert call('GET', '/api/gallery')[0] == 200


def test_the_page_asks_nobody_else_and_cannot_be_framed(call):
    for path in ('/', '/page.css', '/page.js'):
        status, headers, content = call('GET', path)
        assert status == 200
        assert b'http://' not in content
        assert b'https://' not in content
        assert b'innerHTML' not in content
        assert "default-src 'self'" in headers['Content-Security-Policy']
        assert "frame-ancestors 'none'" in headers['Content-Security-Policy']
        assert headers['X-Content-Type-Options'] == 'nosniff'


def test_it_listens_to_this_machine_only_unless_told(api):
    with serving(api) as server:
        assert server.server_address[0] == '127.0.0.1'
        assert server.key is None
    with serving(api, host='0.0.0.0') as server:
        assert server.server_address[0] == '0.0.0.0'


def test_a_page_for_other_machines_opens_with_its_key_alone(api):
    with serving(api, host='0.0.0.0') as server:

        def get(path, **headers):
            connection = http.client.HTTPConnection('127.0.0.1', server.server_port, timeout=30)
            connection.request('GET', path, headers={'Host': 'machine.example', **headers})
            response = connection.getresponse()
            content = response.read()
            connection.close()
            return response, content

        secret = server.key.secret
        name = f'sen_search_{server.server_port}'
        for path in ('/', '/?key=', f'/?key={secret[:-1]}', f'/?key={secret}x', '/?key=%ff%00'):
            refused, content = get(path)
            assert (refused.status, refused.headers['Set-Cookie']) == (401, None)
            assert b'open the whole link' in content
        for path in ('/page.js', '/api/gallery', '/picture/x', f'/api/gallery?key={secret}'):
            assert get(path)[0].status == 401
        for cookie in (f'{name}=', f'{name}={secret}x', f'other={secret}', secret, '\xff'):
            assert get('/api/gallery', Cookie=cookie)[0].status == 401

        entered, _ = get(f'/?key={secret}')
        assert (entered.status, entered.headers['Location']) == (303, '/')
        cookie, *rules = entered.headers['Set-Cookie'].split('; ')
        assert {'HttpOnly', 'SameSite=Lax'} <= set(rules)
        for kept in (cookie, f'other=1; {cookie}; more=2'):
            assert get('/', Cookie=kept)[0].status == 200
            assert json.loads(get('/api/count', Cookie=kept)[1]) == api.count()
    with serving(api, host='0.0.0.0') as another:
        assert another.key.secret != secret


def test_the_command_serves_until_it_is_interrupted(search, monkeypatch, capsys, made):
    def interrupted(server):
        raise KeyboardInterrupt

    monkeypatch.setattr(PageServer, 'serve_forever', interrupted)
    arguments = ['--index', str(search.gallery.folder), '--model', str(made / 'm.safetensors')]
    assert main(['serve', '--port', '0', *arguments]) == 0
    out, err = capsys.readouterr()
    assert out.startswith('10 persons: http://127.0.0.1:')
    assert 'warning' not in err
    assert main(['serve', '--port', '0', '--host', '0.0.0.0', *arguments]) == 0
    out, err = capsys.readouterr()
    assert re.search(r'http://[^0:/]\S*:[0-9]+/\?key=\S{43} ', out)
    assert 'whoever has this link' in err


def test_the_command_says_what_stands_in_its_way(search, server, tmp_path, capsys, made):
    model = ['--model', str(made / 'm.safetensors')]
    assert main(['serve', '--index', str(tmp_path / 'none'), *model]) == 1
    assert 'there is no index' in capsys.readouterr().err
    emptied = PersonSearch(made / 'm.safetensors', index=tmp_path / 'emptied')
    emptied.index(search.root / 'b')
    emptied.remove(search.root / 'b')
    assert main(['serve', '--index', str(tmp_path / 'emptied'), *model]) == 1
    assert 'holds nobody: fill it with sen-search index' in capsys.readouterr().err
    used = ['--index', str(search.gallery.folder), '--port', str(server.server_port)]
    assert main(['serve', *used, *model]) == 1
    assert 'cannot listen on 127.0.0.1' in capsys.readouterr().err
    for port in ('-1', '65536', 'x', ''):
        with pytest.raises(SystemExit) as stop:
            main(['serve', '--port', port])
        assert stop.value.code == 2
    assert serve._port('0') == 0


@pytest.fixture(scope='module')
def browser():
    webdriver = pytest.importorskip('selenium.webdriver')
    chromium, driver = shutil.which('chromium'), shutil.which('chromedriver')
    if not (chromium and driver):
        pytest.skip('there is no chromium with chromedriver: apt-get install chromium-driver')
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in ('headless=new', 'no-sandbox', 'disable-dev-shm-usage', 'window-size=1100,800'):
        options.add_argument(f'--{option}')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.mark.slow
def test_the_page_in_a_browser(search, server, browser, tmp_path):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    wait = WebDriverWait(browser, 60)

    def all_of(selector):
        return browser.find_elements('css selector', selector)

    def loaded(_):
        script = 'return arguments[0].complete && arguments[0].naturalWidth > 0'
        return all_of('#results img') and all(
            browser.execute_script(script, image) for image in all_of('#results img')
        )

    def texts(selector):
        # At once, because a new answer replaces the elements.
        script = 'return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)'
        return browser.execute_script(script, selector)

    def shown():
        return texts('#results .name')

    browser.get(f'http://127.0.0.1:{server.server_port}/')
    wait.until(lambda _: 'model m' in browser.page_source)
    assert not all_of('#results li')

    # Nothing at all is answered, too.
    browser.find_element('css selector', 'button[type=submit]').click()
    assert 'Describe a person' in browser.find_element('id', 'status').text
    assert browser.switch_to.active_element.get_attribute('id') == 'text'

    # A description; the names on the page are those that Python finds, HTML or not.
    browser.find_element('id', 'text').send_keys(f'{QUERY}\n')
    wait.until(loaded)
    expected = [Path(r.path).name for r in search.search(QUERY, k=20)]
    assert [text.split(' at ')[0].rsplit('/')[-1] for text in shown()] == [
        name.replace('\udce9', '\ufffd') for name in expected
    ]
    assert EVIL in ' '.join(shown())
    assert browser.title == 'Person search'

    # Marking refines, and says so.
    first = shown()
    all_of('.mark')[-1].click()
    wait.until(lambda _: all_of('li.right'))
    assert 'Refined by 1 marked.' in browser.find_element('id', 'status').text
    assert sorted(shown()) == sorted(first)

    # A closer look with the regions of a word.
    all_of('.picture')[0].click()
    wait.until(lambda _: all_of('#words button'))
    assert [chip.text.split()[0] for chip in all_of('#words button')] == QUERY.split()
    assert not browser.find_element('id', 'map').is_displayed()
    all_of('#words button')[4].click()
    assert browser.find_element('id', 'map').is_displayed()
    assert browser.find_element('id', 'map').get_property('height') == 16

    # The next person by a key, in a narrow window as well, whose text is not cut.
    opened = browser.find_element('id', 'large').get_attribute('src')
    browser.set_window_size(500, 800)
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    wait.until(lambda _: browser.find_element('id', 'large').get_attribute('src') != opened)
    fits = 'return arguments[0].scrollWidth <= arguments[0].clientWidth'
    for part in ('closer', 'about'):
        assert browser.execute_script(fits, browser.find_element('id', part))
    assert browser.execute_script('return document.body.scrollWidth <= innerWidth')
    browser.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    wait.until(lambda _: browser.find_element('id', 'large').get_attribute('src') == opened)
    browser.set_window_size(1200, 900)

    # Searching by that person.
    person = browser.find_element('css selector', '#facts dd').text
    browser.find_element('id', 'search-by').click()
    wait.until(lambda _: texts('#results .score')[0] == '1.000')
    assert person.endswith(shown()[0].split(' · ')[-1].split(' at ')[0])

    # A picture of one's own in its place.
    own = search.root / 'a' / '3.png'
    browser.find_element('id', 'file').send_keys(str(own))
    wait.until(lambda _: shown() and shown()[0].endswith('a/3.png'))
    preview = browser.find_element('css selector', '#like img').get_attribute('src')
    assert preview.startswith('data:image/png')

    # Filters.
    select = browser.find_element('id', 'within')
    select.find_elements('css selector', 'option')[2].click()
    wait.until(lambda _: len(shown()) == 2)
    select.find_elements('css selector', 'option')[0].click()
    wait.until(lambda _: len(shown()) == 10)
    browser.find_element('id', 'from').send_keys('0:30\t')
    wait.until(lambda _: len(shown()) == 2)
    browser.find_element('id', 'to').send_keys('soon\t')
    wait.until(lambda _: '"soon" is not a time' in browser.find_element('id', 'status').text)

    # A link with HTML in it, and a description that is too long.
    browser.get(f'http://127.0.0.1:{server.server_port}/?q=<script>document.title=1</script>')
    wait.until(loaded)
    assert browser.title == 'Person search'
    browser.execute_script(f"find('text').value = 'x'.repeat({MAX_TEXT + 1}); search()")
    wait.until(lambda _: 'write at most' in browser.find_element('id', 'status').text)

    browser.save_screenshot(str(tmp_path / 'page.png'))
    assert (tmp_path / 'page.png').stat().st_size > 10_000
    logged = [json.loads(line['message'])['message'] for line in browser.get_log('performance')]
    asked = [
        m['params']['request']['url'] for m in logged if m['method'] == 'Network.requestWillBeSent'
    ]
    assert asked
    assert {url.split('/')[2] for url in asked if not url.startswith('data:')} == {
        f'127.0.0.1:{server.server_port}'
    }
    faults = [
        line for line in browser.get_log('browser') if '400 (Bad Request)' not in line['message']
    ]
    assert not faults
