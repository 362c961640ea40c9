"""Foreign text in the terminal and on pages: nothing in it acts, and no other file is lost."""

import os
import shutil
import unicodedata

import pytest
import torch

from sen_toolbox.messages import printable, shown
from sen_toolbox.search.cli import main
from sen_toolbox.search.person_search import Result
from sen_toolbox.search.results_page import PAGE_MARK, results_page

# Clears the screen, renames the window, ends a line, turns text around, is no text.
HOSTILE = 'a\x1b[2J\x1b]0;evil\x07\r\n\x9b2J\u202egpj.\u2066\u2028\udce9\x7f'


def acts(text):
    """Whether a terminal or a browser would obey some character of a line."""
    kinds = ('Cc', 'Cf', 'Cs', 'Zl', 'Zp')
    return [c for c in text.replace('\n', '') if unicodedata.category(c) in kinds]


def test_text_keeps_its_letters_and_loses_what_acts():
    assert printable('café 人 \u0645\u06cc\u200c 👩 a  b\u00a0c \\x1b') == (
        'café 人 \u0645\u06cc\u200c 👩 a  b\u00a0c \\x1b'
    )
    assert not acts(printable(HOSTILE))
    assert printable('\x1b\x9b\n\u202e\udce9') == '\\x1b\\x9b\\n\\u202e\\udce9'
    for code in (*range(0x3000), *range(0xD800, 0x10000), *range(0xE0000, 0xE0200)):
        assert chr(code) in '\u200c\u200d\n' or not acts(printable(chr(code)))


@pytest.fixture
def hostile_file(made, tmp_path):
    folder = tmp_path / 'crops'
    folder.mkdir()
    path = folder / f'{HOSTILE.replace("/", "")}.png'
    shutil.copy(made / 'crops' / '0.png', path)
    return path


def test_names_of_files_do_not_act_on_the_terminal(
    made, hostile_file, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    model = ['--model', str(made / 'm.safetensors')]
    bad = hostile_file.with_name(f'bad{hostile_file.name}')
    bad.write_text('not an image')
    index = f'index{HOSTILE}'
    commands = {
        'skipped: ': ['index', 'crops', '--index', index, *model],
        ' holds 1 persons': ['index', 'crops', '--index', index, *model],
        '.png': ['query', 'a man', '--index', index, '--html', f'{HOSTILE}.html', *model],
        'page: ': ['query', 'a man', '--index', index, '--html', f'{HOSTILE}.html', *model],
        'crops: 1 persons': ['info', '--index', index],
        'holds nothing of': ['remove', f'no{HOSTILE}', '--index', index],
        ' removed; ': ['remove', str(hostile_file), '--index', index],
        'there is no index': ['query', 'a man', '--index', f'no{HOSTILE}', *model],
        'there is no folder': ['index', f'no{HOSTILE}', *model],
        'there is no image': ['query', '--image', f'no{HOSTILE}', '--index', index, *model],
        'unrecognized arguments': ['query', 'a man', 'again', HOSTILE],
        'not a JSON file': ['index', 'crops', '--ids', str(bad), *model],
    }
    for expected, arguments in commands.items():
        try:
            main(arguments)
        except SystemExit as stop:
            assert stop.code == 2
        captured = capsys.readouterr()
        printed = captured.out + captured.err
        assert expected in printed
        assert not acts(printed)
        assert all(len(line) < 1000 for line in printed.splitlines())


def test_a_page_shows_names_and_nothing_in_them_acts():
    page = results_page(HOSTILE, [Result(1, 0.5, f'/{HOSTILE}', HOSTILE, dict(time=1, frame=2))])
    assert not acts(page)
    assert page.count('\\u202egpj.') == 4


def test_a_key_that_is_missing_is_not_the_whole_message(monkeypatch, capsys):
    for error, message in {
        KeyError('format'): "sen-search: there is no 'format' in what was read (KeyError)\n",
        KeyError('there is no such person'): 'sen-search: there is no such person\n',
        KeyError(): "sen-search: there is no '' in what was read (KeyError)\n",
        ValueError(): 'sen-search: ValueError\n',
        ValueError('two\nlines'): 'sen-search: two lines\n',
    }.items():

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr('sen_toolbox.search.commands.query.check_index', fail)
        assert main(['query', 'a man']) == 1
        assert capsys.readouterr().err == message


TARGETS = {
    'photo.jpg': b'\xff\xd8\xff',
    'index.html': b'<!doctype html><title>my homepage</title>',
    'notes.HTML': b'mine',
}


@pytest.mark.parametrize('name', TARGETS)
def test_a_page_of_results_is_not_written_over_anything_else(made, tmp_path, capsys, name):
    target = tmp_path / name
    target.write_bytes(TARGETS[name])
    model = ['--model', str(made / 'm.safetensors'), '--index', str(tmp_path / 'index')]
    main(['index', str(made / 'crops'), *model])
    capsys.readouterr()
    assert main(['query', 'a man', *model, '--html', str(target)]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count('\n')) == ('', 1)
    assert name in captured.err
    assert target.read_bytes() == TARGETS[name]


def test_a_page_is_written_over_an_earlier_one_and_through_no_link(made, tmp_path, capsys):
    model = ['--model', str(made / 'm.safetensors'), '--index', str(tmp_path / 'index')]
    main(['index', str(made / 'crops'), *model])
    page, link = tmp_path / 'found.html', tmp_path / 'link.html'
    for text in ('a man', 'a woman'):
        assert main(['query', text, *model, '--html', str(page)]) == 0
        assert f'<title>{text}</title>' in page.read_text()
        assert PAGE_MARK in page.read_text()
    link.symlink_to(page)
    assert main(['query', 'a child', *model, '--html', str(link)]) == 1
    assert '<title>a woman</title>' in page.read_text()


def test_an_export_is_not_written_over_anything_else(made, tmp_path, capsys):
    other = tmp_path / 'other.onnx'
    other.write_bytes(b'\x08\x08\x12\x07pytorch')
    shutil.copy(made / 'm.safetensors', tmp_path)
    for target in (other, tmp_path / 'm.safetensors'):
        before = target.read_bytes()
        model = ['--model', str(tmp_path / 'm.safetensors')]
        assert main(['export', str(target), *model]) == 1
        assert target.name in capsys.readouterr().err
        assert target.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ['m.safetensors', 'other.onnx']


def test_a_value_is_shown_in_one_line_whatever_it_is():
    assert shown(torch.ones(2, 2)) == 'tensor([[1., 1.], [1., 1.]])'
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == 'a list that is nested too deeply'
