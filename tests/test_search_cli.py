"""The command sen-search says the same as Python, and says what went wrong."""

import gc
import json
import os
import subprocess
import sys

import pytest
from PIL import Image
from toy_data import ROOT

from sen_toolbox import __version__
from sen_toolbox.inference.loading import load_encoder
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


def test_garbage_is_collected_again_once_the_model_is_there(cli, made, monkeypatch):
    seen = []
    monkeypatch.setattr(
        'sen_toolbox.search.person_search.load_encoder',
        lambda *_, **__: seen.append(gc.isenabled()) or load_encoder(made / 'm.safetensors'),
    )
    frozen = gc.get_freeze_count()
    cli('index', made / 'crops')
    assert gc.isenabled()
    # What torch defines is not looked through.
    assert gc.get_freeze_count() > frozen
    gc.disable()
    try:
        cli('query', QUERY)
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert seen == [False, False]


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
        (['serve'], 'there is no index sen_index: make it with sen-search index'),
        (['index', '--detect', '.'], '--detect took the folder . for a detector: write it last'),
        (['index', 'film.AVI'], 'film.AVI is a video: add --detect'),
        (['index', 'films'], 'films holds no images (.avif, .bmp, .gif, .jpeg, .jpg, .png, .tif'),
        (['index', 'films'], ', but 2 videos: add --detect'),
    ],
)
def test_a_fault_in_the_input_is_one_line_and_exit_code_1(cli, tmp_path, arguments, message):
    (tmp_path / 'films').mkdir()
    for name in ('film.AVI', 'films/a.mp4', 'films/b.mkv'):
        (tmp_path / name).touch()
    code, out, err = cli(*arguments)
    assert (code, out) == (1, '')
    assert message in err
    assert err.count('\n') == 1


@pytest.mark.parametrize(
    'arguments',
    [[], ['dance'], ['query', QUERY, '--k', '0'], ['query', QUERY, '--k', 'x']],
)
def test_a_command_line_without_sense_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize('command', ['query', 'index'])
def test_a_command_without_its_argument_is_exit_code_2(cli, command):
    code, _, err = cli(command)
    assert (code, err.count('\n')) == (2, 1)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([''], 'the description is empty'),
        (['--image', 'nowhere.jpg'], 'there is no image nowhere.jpg'),
    ],
)
def test_a_query_without_sense_is_one_line(cli, made, arguments, message):
    cli('index', made / 'crops')
    code, out, err = cli('query', *arguments)
    assert (code, out, err.count('\n')) == (1, '', 1)
    assert message in err


def test_a_query_that_finds_nobody_says_why(cli, made):
    cli('index', made / 'crops')
    code, out, err = cli('query', QUERY, '--within', made)
    assert (code, out.count('\n'), err) == (0, 5, '')
    code, out, err = cli('query', QUERY, '--within', 'elsewhere')
    assert (code, out) == (0, '')
    assert err == ('note: nothing is indexed below elsewhere: sen-search info lists the folders\n')
    _, rows, _ = cli('query', QUERY, '--json')
    scores = [row['score'] for row in json.loads(rows)]
    _, out, err = cli('query', QUERY, '--min-score', scores[1])
    assert (out.count('\n'), err) == (2, '')
    _, out, err = cli('query', QUERY, '--min-score', 1.5)
    assert out == ''
    assert err == f'note: nobody scores 1.5 or more; the best score is {scores[0]:.4f}\n'


def test_identities_of_images_that_are_not_there_are_told(cli, made, tmp_path):
    (made / 'ids.json').write_text('{"crops/1.png": 7, "crop/2.png": 8}')
    code, _, err = cli('index', made / 'crops', '--ids', made / 'ids.json')
    assert code == 0
    assert f'names 1 images that the index does not hold, e.g. {made}/crop/2.png' in err


def test_a_checkpoint_alone_is_told_to_need_its_config(made, tmp_path, capsys):
    checkpoint = str(made / 'm.safetensors')
    assert main(['index', str(made / 'crops'), '--checkpoint', checkpoint]) == 1
    assert 'needs its config: --model CONFIG.py' in capsys.readouterr().err
    assert main(['index', str(made / 'crops'), '--model', str(tmp_path / 'no.onnx')]) == 1
    assert 'there is no model file' in capsys.readouterr().err


def test_every_format_that_can_be_decoded_is_taken_from_a_folder(cli, made, tmp_path):
    (tmp_path / 'mixed').mkdir()
    with Image.open(made / 'crops' / '0.png') as picture:
        for name in ('a.gif', 'b.tif', 'c.TIFF', 'd.webp', 'e.bmp'):
            picture.convert('RGB').save(tmp_path / 'mixed' / name)
    code, out, _ = cli('index', 'mixed')
    assert (code, out.split()[0]) == (0, '5')


@pytest.mark.parametrize('module', ['sen_toolbox', 'sen_toolbox.search'])
def test_python_runs_it_as_a_module(module):
    said = subprocess.run(
        [sys.executable, '-m', module, '--version'], capture_output=True, text=True, cwd=ROOT
    )
    assert said.stdout == f'sen-search {__version__}\n'


def test_what_needs_no_model_loads_nothing_heavy(tmp_path):
    """An error in a command line comes in a tenth of a second; torch alone takes one."""
    code = """
import sys
from sen_toolbox.search.cli import main
for arguments in (['query', 'x'], ['serve'], ['index', 'no'], ['query', 'x', '--model', 'no']):
    assert main(arguments) == 1
assert main(['index']) == 2
heavy = {'torch', 'mmengine', 'numpy', 'PIL', 'cv2', 'faiss', 'rich'}
sys.exit(', '.join(heavy & set(sys.modules)) or 0)
"""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', code]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_reader_that_has_enough_ends_the_output_without_a_word(made, tmp_path):
    PersonSearch(made / 'm.safetensors', index=tmp_path / 'sen_index').index(made / 'crops')
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, 'w') as closed:
        command = [sys.executable, '-m', 'sen_toolbox', 'info']
        environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
        run = subprocess.run(
            command, cwd=tmp_path, env=environment, stdout=closed, stderr=subprocess.PIPE
        )
    assert (run.returncode, run.stderr) == (0, b'')


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
