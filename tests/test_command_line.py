"""Values on a command line, read as MMEngine reads them, except that strings stay what they are."""

import argparse
import subprocess
import sys

import pytest
from mmengine.config import DictAction

from sen_toolbox.command_line import add_cfg_options, parse_value


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
