"""The script of sen-search completion, run by the shell that it is for."""

import shutil
import subprocess

import pytest

from sen_toolbox.search.cli import COMMANDS, main, make_parser
from sen_toolbox.search.commands.completion import SHELLS, bash_script

needs_bash = pytest.mark.skipif(shutil.which('bash') is None, reason='there is no bash')
# What bash does at a tab, with the words of a line as its arguments.
TAB = """
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_sen_search
printf '%s\\n' "${COMPREPLY[@]}"
"""


def in_bash(code, *words):
    run = subprocess.run(
        ['bash', '--norc', '-c', bash_script(make_parser()) + code, 'bash', *words],
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, '')
    return run.stdout.split()


def completed(line):
    return in_bash(TAB, *line.split(' '))


@needs_bash
def test_the_script_registers_itself_and_leaves_files_to_the_shell():
    assert in_bash('complete -p sen-search') == [
        *('complete', '-o', 'default', '-F', '_sen_search', 'sen-search')
    ]


@needs_bash
@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('sen-search ', [*COMMANDS, '-h', '--help', '--version']),
        ('sen-search qu', ['query']),
        ('sen-search x', []),
        ('sen-search query --r', ['--rerank']),
        ('sen-search query red --min', ['--min-score']),
        ('sen-search query --rerank ', ['k_reciprocal', 'query_expansion']),
        ('sen-search query --rerank k', ['k_reciprocal']),
        ('sen-search query --image ', []),
        ('sen-search query --k ', []),
        ('sen-search query --json --rerank q', ['query_expansion']),
        ('sen-search index --detect h', ['hog']),
        ('sen-search index crops/ --re', ['--reindex']),
        ('sen-search index --rerank ', []),
        ('sen-search completion ', list(SHELLS)),
        ('sen-search nothing --h', []),
    ],
)
def test_a_tab_offers_what_the_parser_takes(line, expected):
    assert completed(line) == expected


@needs_bash
@pytest.mark.parametrize('name', COMMANDS)
def test_every_option_of_a_command_is_offered(name):
    actions = [a for a in make_parser()._actions if a.choices and name in a.choices]
    options = actions[0].choices[name]._option_string_actions
    assert completed(f'sen-search {name} -') == [*options]


@needs_bash
def test_names_of_files_are_offered_where_there_is_to_be_one():
    """Shells complete files by default, which the function turns off elsewhere."""
    code = 'compopt() { echo "no files"; }\n' + TAB
    for line, files in (
        ('sen-search ', False),
        ('sen-search index ', True),
        ('sen-search index a b', True),
        ('sen-search query ', False),
        ('sen-search query a --image ', True),
        ('sen-search query --k ', False),
        ('sen-search index --detect ', True),
        ('sen-search remove ', True),
        ('sen-search info ', False),
    ):
        assert ('no' not in in_bash(code, *line.split(' '))) == files, line


@pytest.mark.parametrize('shell', SHELLS)
def test_the_command_prints_the_script(shell, capsys):
    assert main(['completion', shell]) == 0
    said = capsys.readouterr().out
    assert said.endswith(bash_script(make_parser()))
    assert ('bashcompinit' in said) == (shell == 'zsh')


@pytest.mark.skipif(shutil.which('zsh') is None, reason='there is no zsh')
def test_zsh_reads_its_script(capsys):
    main(['completion', 'zsh'])
    said = capsys.readouterr().out
    code = f'autoload -Uz compinit && compinit -u -D\n{said}\nprint -r -- $_comps[sen-search]'
    run = subprocess.run(['zsh', '-f', '-c', code], capture_output=True, text=True)
    assert run.stderr == ''
    assert '_sen_search' in run.stdout
