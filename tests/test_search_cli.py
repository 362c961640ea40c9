"""The command sen-search says the same as Python, and says what went wrong."""

import json
import subprocess
import sys

import pytest

from sen_toolbox.search import PersonSearch
from sen_toolbox.search.cli import COMMANDS, main

QUERY = 'a woman in a red coat'


@pytest.fixture
def cli(made, tmp_path, capsys, monkeypatch):
    """Runs a command line in a new folder; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(command, *arguments):
        model = ('--model', made / 'm.safetensors')
        code = main([command, *map(str, (*arguments, *model))])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_command_finds_what_python_finds(cli, made, tmp_path):
    code, out, _ = cli('index', made / 'crops')
    assert (code, out) == (
        0,
        '5 added, 0 changed, 0 removed, 0 unchanged, 0 skipped; sen_index holds 5 persons\n',
    )
    results = PersonSearch(made / 'm.safetensors', index=tmp_path / 'sen_index').search(QUERY, k=4)
    code, out, _ = cli('query', QUERY, '--k', 4, '--json')
    rows = [{**vars(result), 'missing': False} for result in results]
    assert (code, json.loads(out)) == (0, rows)
    code, out, _ = cli('query', QUERY, '--k', 4)
    assert [line.split() for line in out.splitlines()] == [
        [str(r.rank), f'{r.score:.4f}', r.path] for r in results
    ]


@pytest.mark.slow
def test_a_config_with_its_checkpoint_and_a_server_are_options(cli, made, tmp_path):
    pytest.importorskip('pymilvus')
    assert cli('index', made / 'crops')[0] == 0
    _, plain, _ = cli('query', QUERY)
    arguments = ['--uri', 'people.db', '--index', 'people']
    assert cli('index', made / 'crops', *arguments)[0] == 0
    _, out, _ = cli('query', QUERY, *arguments)
    assert out == plain


def test_an_image_and_a_sentence_are_a_query(cli, made):
    cli('index', made / 'crops')
    image = made / 'crops' / '2.png'
    _, out, _ = cli('query', '--image', image, '--k', 1)
    assert out.split() == ['1', '1.0000', str(image)]
    assert cli('query', QUERY, '--image', image)[0] == 0


def test_identities_come_from_a_file_beside_the_images(cli, made):
    (made / 'ids.json').write_text('{"crops/1.png": 7}')
    cli('index', made / 'crops', '--ids', made / 'ids.json')
    _, out, _ = cli('query', '--image', made / 'crops' / '1.png', '--k', 1)
    assert out.endswith('1.png  7\n')
    (made / 'ids.json').write_text('[1]')
    code, _, err = cli('index', made / 'crops', '--ids', made / 'ids.json')
    assert code == 1
    assert 'must hold an object' in err


def test_the_page_holds_its_images_and_escapes_all_text(cli, made, tmp_path):
    folder = tmp_path / '<b>&'
    folder.mkdir()
    (folder / '"<script>.png').write_bytes((made / 'crops' / '0.png').read_bytes())
    cli('index', folder)
    code, _, err = cli('query', '<script>alert(1)</script>', '--html', 'found.html')
    page = (tmp_path / 'found.html').read_text()
    assert (code, 'found.html' in err) == (0, True)
    assert '<script' not in page
    assert '&lt;script&gt;alert(1)' in page
    assert page.count('src="data:image/jpeg;base64,') == 1
    assert 'http' not in page


def test_skipped_images_are_listed_and_make_a_fault(cli, made, tmp_path):
    (tmp_path / 'crops').mkdir()
    (tmp_path / 'crops' / 'good.png').write_bytes((made / 'crops' / '0.png').read_bytes())
    (tmp_path / 'crops' / 'bad.png').write_text('no image')
    code, out, err = cli('index', 'crops')
    assert code == 1
    assert out.startswith('1 added, 0 changed, 0 removed, 0 unchanged, 1 skipped')
    assert f'skipped: {tmp_path}/crops/bad.png: cannot be decoded' in err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['index', 'nowhere'], 'there is no folder'),
        (['query', QUERY], 'there is no index sen_index: make it with sen-search index'),
        (['query', ''], 'the description is empty'),
        (['query', '--image', 'nowhere.jpg'], 'there is no image nowhere.jpg'),
    ],
)
def test_a_fault_in_the_input_is_one_line_and_exit_code_1(cli, arguments, message):
    code, out, err = cli(*arguments)
    assert (code, out) == (1, '')
    assert message in err
    assert err.count('\n') == 1


@pytest.mark.parametrize(
    'arguments',
    [[], ['dance'], ['query', QUERY, '--k', '0'], ['query', QUERY, '--k', 'x'], ['index']],
)
def test_a_command_line_without_sense_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err


def test_a_query_for_nothing_is_exit_code_2(cli):
    code, _, err = cli('query')
    assert (code, err.count('\n')) == (2, 1)


def test_names_that_are_no_text_are_printed(cli, made, tmp_path):
    folder = tmp_path / 'crops'
    folder.mkdir()
    (folder / 'caf\udce9.png').write_bytes((made / 'crops' / '0.png').read_bytes())
    assert cli('index', folder)[0] == 0
    assert cli('query', QUERY, '--html', 'found.html')[0] == 0
    code, out, _ = cli('query', QUERY, '--json')
    assert json.loads(out)[0]['path'].endswith('caf\udce9.png')


def test_help_teaches_and_needs_no_torch():
    code = (
        'import sys, sen_toolbox\n'
        'from sen_toolbox.search.cli import main\n'
        'try: main(sys.argv[1:])\n'
        'except SystemExit as stop: assert stop.code == 0\n'
        "heavy = {'torch', 'numpy', 'faiss', 'mmengine'} & set(sys.modules)\n"
        'assert not heavy, heavy\n'
    )
    for arguments in (['--help'], *([name, '--help'] for name in COMMANDS)):
        command = [sys.executable, '-c', code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert 'exit codes:' in done.stdout
        assert 'sen-search' in done.stdout
