"""Print a script that lets a shell complete commands, options and their values.

eval "$(sen-search completion bash)"     # for this shell; for all: into ~/.bashrc
eval "$(sen-search completion zsh)"      # into ~/.zshrc, behind compinit
"""

import argparse
import shlex
import sys
from collections.abc import Iterable

HELP = 'print a script that completes commands and options in bash or zsh'
SHELLS = ('bash', 'zsh')
# How the help calls a value that is a file or a folder, which the shell completes by itself.
FILES = {'FILE', 'FOLDER', 'DIR', 'PATH', 'MODEL.onnx'}
NO_FILES = 'compopt +o default 2>/dev/null'
# zsh runs functions that are written for bash.
FOR_ZSH = 'autoload -Uz bashcompinit && bashcompinit\n'
SCRIPT = """\
_sen_search() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    local command=${{COMP_WORDS[1]}}
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]]; then
        {no_files}
        COMPREPLY=($(compgen -W {commands} -- "$word"))
        return
    fi
    if [[ $word == -* ]]; then
        case $command in
{options}
        esac
        return
    fi
    case "$command $before" in
{values}
    esac
    case $command in
{without_files}
    esac
}}
complete -o default -F _sen_search sen-search
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument('shell', choices=SHELLS, help='which shell the script is for')


def run(args: argparse.Namespace) -> int:
    """Prints the script; returns the exit code."""
    # It imports this module.
    from sen_toolbox.search.cli import make_parser

    script = bash_script(make_parser())
    sys.stdout.write(script if args.shell == 'bash' else FOR_ZSH + script)
    return 0


def bash_script(parser: argparse.ArgumentParser) -> str:
    """The function that completes a command line of this parser, and its registration."""
    commands = _commands(parser)
    values, options, without_files = [], [], []
    for name, command in commands.items():
        options.append(_case([name], _offer(_names(command))))
        for action in command._actions:
            # The first argument stands behind the command.
            places = [f'{name} {text}' for text in action.option_strings or [name]]
            if action.nargs != 0 and (what := _value(action)):
                values.append(_case(places, f'{what}; return'))
        if not any(_kinds(a) & FILES for a in command._actions if not a.option_strings):
            without_files.append(_case([name], NO_FILES))
    return SCRIPT.format(
        no_files=NO_FILES,
        commands=shlex.quote(' '.join([*commands, *_names(parser)])),
        options='\n'.join(options),
        values='\n'.join(values),
        without_files='\n'.join(without_files),
    )


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    [found] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(found.choices)


def _names(parser: argparse.ArgumentParser) -> list[str]:
    return [text for action in parser._actions for text in action.option_strings]


def _kinds(action: argparse.Action) -> set[str]:
    """What the help calls a value: kinds in capitals, and words that stand for themselves."""
    return set(action.metavar.split('|')) if isinstance(action.metavar, str) else set()


def _value(action: argparse.Action) -> str:
    """What completes a value; empty for an argument about which nothing is known."""
    kinds = _kinds(action)
    if words := [*(action.choices or ()), *sorted(kind for kind in kinds if kind.islower())]:
        return _offer(words)
    if kinds & FILES:
        return ':'
    return NO_FILES if action.option_strings else ''


def _offer(words: Iterable[str]) -> str:
    return f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(words))} -- "$word"))'


def _case(places: Iterable[str], what: str) -> str:
    return f'        {"|".join(map(shlex.quote, places))}) {what} ;;'
