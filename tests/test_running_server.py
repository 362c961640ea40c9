"""A query asks the running server of its index, and finds what it would find by itself."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection

import pytest
from toy_data import ROOT

from sen_toolbox.search import PersonSearch
from sen_toolbox.search.cli import main, make_parser
from sen_toolbox.search.commands import asking, query
from sen_toolbox.search.running import asking as running_asking
from sen_toolbox.search.running.folder import make_own_folder, own_folder
from sen_toolbox.search.running.notice import LARGEST, Notice, announced, read_notice
from sen_toolbox.search.running.seal import ASKED, NONCE, SEAL, TARGET, seal
from sen_toolbox.search.running.served import served_by
from sen_toolbox.search.web.api import SearchApi
from sen_toolbox.search.web.own_queries import OwnQueries
from sen_toolbox.search.web.request import LARGER_BODIES, MAX_BODY
from sen_toolbox.search.web.server import PageServer

QUERY = 'a woman in a red coat'
KEY = 'k' * 43


@pytest.fixture(scope='module')
def gallery(made, tmp_path_factory):
    """A folder with an index of two folders, a person who is known, and a name that is no text."""
    root = tmp_path_factory.mktemp('gallery')
    shutil.copytree(made / 'crops', root / 'a')
    (root / 'b').mkdir()
    shutil.copy(made / 'crops' / '0.png', root / 'b' / 'caf\udce9.png')
    search = PersonSearch(made / 'm.safetensors', index=root / 'index')
    search.index([root / 'a', root / 'b'], ids={root / 'a' / '1.png': 7})
    return root


@pytest.fixture
def arguments(made, gallery):
    return ['--model', str(made / 'm.safetensors'), '--index', str(gallery / 'index')]


@pytest.fixture(scope='module')
def api(made, gallery):
    return SearchApi(PersonSearch(made / 'm.safetensors', index=gallery / 'index'))


@contextmanager
def serving(api, arguments, key=KEY, **changes):
    """A server as sen-search serve runs it, with changes of its notice."""
    args = make_parser().parse_args(['query', QUERY, *arguments])
    served = served_by(args)
    server = PageServer(api, port=0, own=OwnQueries(api, KEY, served))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    told = {'port': server.server_port, 'ipv6': False, 'key': key, 'served': served, **changes}
    try:
        with announced(args.index, Notice(**told)):
            yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def no_model(monkeypatch):
    """The query must not search by itself."""
    monkeypatch.setattr(query, 'open_search', lambda args: pytest.fail('loads a model'))


def run(capsys, *arguments):
    code = main(['query', *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize(
    'asked',
    [
        [QUERY],
        [QUERY, '--k', '2', '--json'],
        [QUERY, '--within', '{a}'],
        [QUERY, '--within', '{a}/none'],
        [QUERY, '--min-score', '0.999'],
        ['--image', '{a}/2.png', '--k', '3'],
        [QUERY, '--image', '{a}/2.png', '--json'],
        [QUERY, '--rerank', 'query_expansion'],
        [QUERY, '--html', '{out}/found.html'],
        ['a womann \udce9'],
    ],
)
def test_a_server_gives_what_a_query_finds_by_itself(
    asked, arguments, gallery, api, capsys, tmp_path, monkeypatch
):
    asked = [text.format(a=gallery / 'a', out=tmp_path) for text in asked]
    page = tmp_path / 'found.html'
    alone = run(capsys, *asked, *arguments), page.exists() and page.read_bytes()
    page.unlink(missing_ok=True)
    monkeypatch.setattr(query, 'open_search', lambda args: pytest.fail('loads a model'))
    with serving(api, arguments):
        assert (run(capsys, *asked, *arguments), page.exists() and page.read_bytes()) == alone
    assert alone[0][0] == 0


def test_a_server_finds_whom_another_process_has_just_indexed(
    arguments, gallery, made, api, capsys, no_model
):
    (gallery / 'new').mkdir()
    shutil.copy(made / 'crops' / '3.png', gallery / 'new' / 'just_now.png')
    search = PersonSearch(made / 'm.safetensors', index=gallery / 'index')
    with serving(api, arguments):
        assert 'just_now' not in run(capsys, QUERY, *arguments)[1]
        search.index(gallery / 'new')
        assert 'just_now' in run(capsys, QUERY, *arguments)[1]
        search.remove(gallery / 'new')
        assert 'just_now' not in run(capsys, QUERY, *arguments)[1]


def test_asking_imports_neither_numpy_nor_torch(arguments, api):
    code = (
        'import sys\n'
        'from sen_toolbox.search.cli import main\n'
        'assert main(sys.argv[1:]) == 0\n'
        "print('imported', *{'numpy', 'torch', 'mmengine', 'PIL', 'faiss'} & set(sys.modules))\n"
    )
    command = [sys.executable, '-c', code, 'query', QUERY, *arguments]
    with serving(api, arguments):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[6:] == ['imported']


def test_a_notice_is_the_users_alone_and_goes_with_its_server(gallery):
    notice = Notice(1, False, KEY, {})
    with announced(gallery / 'index', notice):
        [path] = own_folder().iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert read_notice(gallery / 'index') == notice
        # By another way to the same folder, too.
        assert read_notice(gallery / 'a' / '..' / 'index') == notice
        assert read_notice(gallery / 'a') is None
    assert list(own_folder().iterdir()) == []


def test_a_server_that_ends_leaves_the_notice_of_the_next(gallery):
    later = Notice(2, False, KEY, {})
    with announced(gallery / 'index', Notice(1, False, KEY, {})):
        following = announced(gallery / 'index', later)
        following.__enter__()
    assert read_notice(gallery / 'index') == later
    following.__exit__(None, None, None)
    assert read_notice(gallery / 'index') is None


@pytest.mark.parametrize('mode', [0o640, 0o604, 0o620, 0o602])
def test_a_notice_that_others_may_open_is_not_read(gallery, mode):
    with announced(gallery / 'index', Notice(1, False, KEY, {})):
        [path] = own_folder().iterdir()
        path.chmod(mode)
        assert read_notice(gallery / 'index') is None


def test_nothing_of_another_user_is_read_or_written(gallery, monkeypatch):
    with announced(gallery / 'index', Notice(1, False, KEY, {})):
        monkeypatch.setattr(os, 'geteuid', lambda: os.getuid() + 1)
        assert read_notice(gallery / 'index') is None
        with pytest.raises(ValueError, match='belongs to user'):
            make_own_folder()


def test_a_folder_that_others_may_enter_is_not_used(gallery):
    with announced(gallery / 'index', Notice(1, False, KEY, {})):
        own_folder().chmod(0o755)
        try:
            assert read_notice(gallery / 'index') is None
            with pytest.raises(ValueError, match='is open to others'):
                make_own_folder()
        finally:
            own_folder().chmod(0o700)


def test_neither_a_link_nor_a_pipe_is_read(gallery, tmp_path):
    with announced(gallery / 'index', Notice(1, False, KEY, {})):
        [path] = own_folder().iterdir()
        path.rename(tmp_path / 'elsewhere')
        path.symlink_to(tmp_path / 'elsewhere')
        assert read_notice(gallery / 'index') is None
        path.unlink()
        os.mkfifo(path, 0o600)
        assert read_notice(gallery / 'index') is None
        path.unlink()


GOOD = dict(port=1, ipv6=False, key=KEY, served={})


@pytest.mark.parametrize(
    'content',
    [
        '',
        '[]',
        'x' * (LARGEST + 1),
        '[' * 5000,
        *(
            json.dumps({**GOOD, **change})
            for change in (
                dict(port=0),
                dict(port=65536),
                dict(port=True),
                dict(port='1'),
                dict(ipv6='::1'),
                dict(key=None),
                dict(served=[]),
                dict(host='10.0.0.1'),
            )
        ),
    ],
)
def test_what_is_no_notice_is_none(gallery, content):
    with announced(gallery / 'index', Notice(**GOOD)):
        [path] = own_folder().iterdir()
        path.write_text(content)
        assert read_notice(gallery / 'index') is None


def test_the_folder_is_in_the_cache_where_there_is_none_of_the_session(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_RUNTIME_DIR', 'relative')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    assert own_folder() == tmp_path / 'cache' / 'sen-search'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert make_own_folder() == tmp_path / '.cache' / 'sen-search'


@pytest.mark.parametrize(
    'change',
    [
        dict(model=[1, 2, 3, 4]),
        dict(database=[1, 2]),
        dict(index='/elsewhere'),
        dict(device='cuda'),
        dict(version='0.0.1'),
    ],
)
def test_a_server_of_something_else_is_not_asked(change, arguments, api, capsys):
    alone = run(capsys, QUERY, *arguments)
    served = served_by(make_parser().parse_args(['query', QUERY, *arguments]))
    with serving(api, arguments, served={**served, **change}) as server:
        assert run(capsys, QUERY, *arguments) == alone
        assert not server._connections


def test_a_server_whose_notice_is_out_of_date_says_what_it_serves(arguments, api, capsys):
    alone = run(capsys, QUERY, *arguments)
    args = make_parser().parse_args(['query', QUERY, *arguments])
    with serving(api, arguments) as server:
        server._site._own._served['version'] = '0.0.1'
        assert asking.ask_server(args) is None
        assert run(capsys, QUERY, *arguments) == alone


def test_only_a_model_that_is_whole_in_a_file_is_asked_for(made, arguments):
    def served(*others):
        return served_by(make_parser().parse_args(['query', QUERY, *arguments, *others]))

    assert served() is not None
    config = ['--model', str(made / 'config.py'), '--checkpoint', str(made / 'm.pth')]
    for others in (config, ['--import', 'json'], ['--uri', 'http://host:19530']):
        assert served(*others) is None


def test_a_changed_model_and_a_new_index_are_something_else(made, gallery, tmp_path):
    shutil.copytree(gallery / 'index', tmp_path / 'index')
    shutil.copy(made / 'm.safetensors', tmp_path / 'm.safetensors')

    def served():
        options = ['--index', str(tmp_path / 'index'), '--model', str(tmp_path / 'm.safetensors')]
        return served_by(make_parser().parse_args(['query', QUERY, *options]))

    first = served()
    os.utime(tmp_path / 'm.safetensors', ns=(1, 1))
    second = served()
    shutil.copytree(gallery / 'index', tmp_path / 'new')
    (tmp_path / 'index').rename(tmp_path / 'old')
    (tmp_path / 'new').rename(tmp_path / 'index')
    third = served()
    assert first['model'] != second['model'] == third['model']
    assert first['database'] == second['database'] != third['database']


@contextmanager
def listening(answer):
    """Another program on a port: what it hears, and what it says, None for nothing."""
    heard = []
    with socket.create_server(('127.0.0.1', 0)) as listener:

        def serve():
            client, _ = listener.accept()
            with client:
                heard.append(client.recv(65536))
                if answer is not None:
                    client.sendall(answer)
                    while part := client.recv(65536):
                        heard.append(part)
                else:
                    done.wait()

        done, thread = threading.Event(), threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], heard
        done.set()
        thread.join()


def lie(served):
    """What the server would say, without its seal."""
    content = json.dumps(dict(served=served)).encode()
    head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n{SEAL}: {"0" * 64}\r\n\r\n'
    return head.encode() + content


@pytest.mark.parametrize('answer', [lie, b'SSH-2.0-OpenSSH_9.6\r\n', b'', None])
def test_another_program_on_the_port_learns_nothing_and_is_not_believed(
    answer, arguments, api, capsys, monkeypatch
):
    monkeypatch.setattr(running_asking, 'HELLO_SECONDS', 0.2)
    alone = run(capsys, QUERY, *arguments)
    if callable(answer):
        answer = answer(served_by(make_parser().parse_args(['query', QUERY, *arguments])))
    with listening(answer) as (port, heard), serving(api, arguments, port=port):
        assert run(capsys, QUERY, *arguments) == alone
    assert heard
    assert not any(word in b''.join(heard) for word in (b'red', b'coat', KEY.encode()))


def test_a_port_that_nobody_listens_on_is_no_obstacle(arguments, api, capsys):
    alone = run(capsys, QUERY, *arguments)
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port = listener.getsockname()[1]
    with serving(api, arguments, port=port):
        assert run(capsys, QUERY, *arguments) == alone


def test_a_server_with_another_key_is_not_believed(arguments, api, capsys):
    alone = run(capsys, QUERY, *arguments)
    with serving(api, arguments, key='x' * 43):
        assert run(capsys, QUERY, *arguments) == alone


def test_what_the_server_refuses_the_query_tells_by_itself(
    arguments, gallery, api, capsys, monkeypatch
):
    (gallery / 'broken.png').write_bytes(b'no picture')
    with serving(api, arguments):
        for asked in (['  '], ['--image', gallery / 'broken.png'], ['--image', gallery / 'none']):
            code, out, err = run(capsys, *asked, *arguments)
            assert (code, out) == (1, '')
            assert err.startswith('sen-search: ')
        # Larger than what is sent.
        monkeypatch.setattr(asking, 'LARGEST_PICTURE', 10)
        monkeypatch.setattr(query, 'open_search', lambda args: pytest.fail('searches by itself'))
        with pytest.raises(pytest.fail.Exception, match='searches by itself'):
            run(capsys, '--image', gallery / 'a' / '2.png', *arguments)


def test_the_largest_picture_is_below_the_limit_of_the_server():
    assert 4 * asking.LARGEST_PICTURE / 3 + MAX_BODY < LARGER_BODIES[TARGET]


def post(server, body, headers, target=TARGET):
    connection = HTTPConnection('127.0.0.1', server.server_port, timeout=30)
    connection.request('POST', target, body, {'Content-Type': 'application/json', **headers})
    response = connection.getresponse()
    return response.status, response.read()


def test_a_request_without_the_right_seal_finds_no_page(arguments, api):
    body = json.dumps(dict(text=QUERY, picture=None)).encode()
    right = seal(KEY, ASKED, 'n', b'{}')
    with serving(api, arguments) as server:
        assert post(server, b'{}', {NONCE: 'n', SEAL: right})[0] == 200
        for content, headers in (
            (body, {}),
            (body, {NONCE: 'n', SEAL: right}),
            (b'{}', {NONCE: 'm', SEAL: right}),
            (b'{}', {NONCE: 'n', SEAL: 'é' * 64}),
            (b'{}', {NONCE: 'n', SEAL: seal('x' * 43, ASKED, 'n', b'{}')}),
        ):
            status, answer = post(server, content, headers)
            assert (status, json.loads(answer)) == (404, {'error': 'there is no such page'})


def test_a_page_that_is_not_announced_answers_no_queries(api):
    server = PageServer(api, port=0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    sealed = {NONCE: 'n', SEAL: seal(KEY, ASKED, 'n', b'{}')}
    try:
        assert post(server, b'{}', sealed)[0] == 404
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_ended_takes_its_notice_along(
    arguments, gallery, capsys, number, no_model
):
    command = [sys.executable, '-m', 'sen_toolbox', 'serve', '--port', '0', *arguments]
    # What a shell starts in the background ignores Ctrl-C, these tests as well.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=heeds
    ) as process:
        try:
            assert process.stdout.readline().startswith('6 persons: http://127.0.0.1:')
            assert read_notice(gallery / 'index') is not None
            assert run(capsys, QUERY, *arguments)[0] == 0
            process.send_signal(number)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
    assert read_notice(gallery / 'index') is None


def test_a_server_whose_folder_is_not_its_users_goes_on_without_a_notice(
    arguments, gallery, capsys, monkeypatch
):
    monkeypatch.setattr(PageServer, 'serve_forever', lambda self: None)
    own_folder().mkdir(mode=0o700, exist_ok=True)
    own_folder().chmod(0o755)
    try:
        assert main(['serve', '--port', '0', *arguments]) == 0
    finally:
        own_folder().chmod(0o700)
    said = capsys.readouterr()
    assert '6 persons: http://' in said.out
    assert 'sen-search query will load its own model' in said.err
    assert 'is open to others' in said.err


def test_a_server_that_no_loopback_address_leads_to_is_not_announced(
    arguments, gallery, capsys, monkeypatch
):
    told = []
    monkeypatch.setattr(
        PageServer, 'serve_forever', lambda self: told.append(read_notice(gallery / 'index'))
    )
    for host in ('127.0.0.1', '0.0.0.0', '127.0.0.2'):
        assert main(['serve', '--port', '0', '--host', host, *arguments]) == 0
    assert [notice is None for notice in told] == [False, False, True]
