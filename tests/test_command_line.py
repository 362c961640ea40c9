"""Values on a command line, read as MMEngine reads them, except that strings stay what they are."""

import argparse
import gc
import subprocess
import sys

import pytest
from mmengine.config import DictAction
from toy_data import ROOT, tool

from sen_toolbox.command_line import (
    add_cfg_options,
    parse_value,
    read_first,
    run_main,
    tool_parser,
)
from sen_toolbox.evaluation.reranking import RERANKERS


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    return parser.parse_args(arguments).cfg_options


@pytest.mark.parametrize(
    'text',
    '1 -2 1.5 1e-5 True False true false None name openai a.pth [] () [a] (1,) 1,2,3 a,b [1,2] '
    '(384,128) [(1,2,3),[a,b],c] [1,[2.5,None]] inf'.split(),
)
def test_a_value_is_what_mmengine_reads(text):
    read, expected = parse_value(text), DictAction._parse_iterable(text)
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('/my data/CUHK PEDES', '/my data/CUHK PEDES'),
        ('a red coat, a hat', ['a red coat', 'a hat']),
        ('"a red coat, a hat"', 'a red coat, a hat'),
        ("['a, b', c]", ['a, b', 'c']),
        ('"1"', '1'),
        ('$image_size', '$image_size'),
        ('a=b', 'a=b'),
        ('', ''),
        ('"', '"'),
    ],
)
def test_strings_keep_their_spaces_and_quotation_marks_their_commas(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize('text', ['[1,2', '1)', '[(1,2])', '(1]'])
def test_brackets_that_do_not_match_are_refused(text, capsys):
    with pytest.raises(ValueError, match='brackets do not match in'):
        parse_value(text)
    with pytest.raises(SystemExit, match='2'):
        parse('--cfg-options', f'image_size={text}')
    assert '--cfg-options image_size: brackets do not match' in capsys.readouterr().err


def test_options_are_a_dict_and_those_of_several_times_are_joined():
    assert parse() == {}
    assert parse('--cfg-options', 'a.b=1', 'c=d=e') == {'a.b': 1, 'c': 'd=e'}
    given = ('--cfg-options', 'a=1', 'b=2', '--cfg-options', 'b=3')
    assert parse(*given) == {'a': 1, 'b': 3}
    assert parse() == {}


def test_an_option_without_a_value_is_refused(capsys):
    with pytest.raises(SystemExit, match='2'):
        parse('--cfg-options', 'batch_size', '64')
    assert "--cfg-options takes KEY=VALUE, got 'batch_size'" in capsys.readouterr().err


def test_reading_a_command_line_imports_nothing_heavy():
    code = 'import sys, sen_toolbox.command_line; print(*{"torch", "mmengine"} & set(sys.modules))'
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip()) == (0, '')


def fail(error):
    raise error


@pytest.mark.parametrize(
    'error',
    [FileNotFoundError('there is no a.py'), KeyError('no such key'), FloatingPointError('NaN')],
)
def test_what_is_wrong_with_the_input_of_a_tool_is_one_line(monkeypatch, error):
    monkeypatch.setattr(sys, 'argv', ['/somewhere/train.py', 'a.py'])
    with pytest.raises(SystemExit, match=f'^train.py: {error.args[0]}$'):
        run_main(lambda: fail(error))


def test_the_traceback_is_shown_on_demand(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['train.py', 'a.py', '--debug'])
    assert tool_parser('Trains.').parse_args(['--debug']).debug
    with pytest.raises(FileNotFoundError):
        run_main(lambda: fail(FileNotFoundError()))


def test_a_fault_of_the_code_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 / 0)


def test_an_interrupted_tool_ends_as_a_shell_expects():
    with pytest.raises(SystemExit, match='^130$'):
        run_main(lambda: fail(KeyboardInterrupt()))


TOOLS = [path for path in (ROOT / 'tools').glob('*.py') if 'tool_parser' in path.read_text()]


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.name)
def test_every_tool_says_so_in_one_line(path):
    assert path.read_text().endswith("if __name__ == '__main__':\n    run_main(main)\n")


# Runs a tool twice; prints how each run ended, then what it imported of the libraries.
READS = """
import runpy, sys
from pathlib import Path
path = sys.argv[1]
sys.path[0] = str(Path(path).parent)
for option in ('--help', '--ampp'):
    sys.argv = [path, option]
    try:
        runpy.run_path(path, run_name='__main__')
    except SystemExit as stop:
        print('ended', stop.code)
print('imported', *{'torch', 'mmengine', 'mmcv', 'matplotlib', 'nltk'} & set(sys.modules))
"""


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.name)
def test_a_tool_tells_its_help_and_a_wrong_option_before_it_imports_what_is_heavy(path):
    command = [sys.executable, '-c', READS, path]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.startswith('usage: ' + path.name)
    assert run.stdout.split('ended', 1)[1].splitlines() == [' 0', 'ended 2', 'imported'], run.stderr
    assert f'{path.name}: error: ' in run.stderr


def test_garbage_is_looked_for_while_a_tool_runs_but_neither_during_nor_among_its_imports():
    made = []
    read_first('__main__', lambda: None)
    assert not gc.isenabled()
    made.append(made)
    run_main(lambda: made.append(gc.isenabled()))
    assert made == [made, True]
    assert not any(found is made for found in gc.get_objects())


def test_a_tool_that_is_imported_reads_no_command_line():
    read_first('train', lambda: fail(SystemExit('read')))
    with pytest.raises(SystemExit, match='read'):
        read_first('__main__', lambda: fail(SystemExit('read')))


def test_re_ranking_is_chosen_among_all_that_there_is():
    assert tool('test').parse_args(['a.py', '--rerank', *RERANKERS]).rerank == [*RERANKERS]
    with pytest.raises(SystemExit, match='2'):
        tool('test').parse_args(['a.py', '--rerank', 'other'])


def test_no_tool_has_a_parser_of_its_own():
    for path in (ROOT / 'tools').glob('*.py'):
        assert 'ArgumentParser(' not in path.read_text(), path.name
