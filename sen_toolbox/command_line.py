"""What the command lines of the tools share; imports nothing heavy."""

import argparse
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sen_toolbox.messages import error_line

BRACKETS = {'[]': list, '()': tuple}
WORDS = {'true': True, 'True': True, 'false': False, 'False': False, 'None': None}
DEBUG = '--debug'
INTERRUPTED = 130  # as a shell says it of a command that Ctrl-C ended


def tool_parser(description: str, **options: Any) -> argparse.ArgumentParser:
    """The parser of a tool that ``run_main`` runs, with ``--debug``.

    Args:
        description: What stands on top of the help.
        **options: Others of ``argparse.ArgumentParser``.
    """
    parser = argparse.ArgumentParser(description=description, **options)
    parser.add_argument(DEBUG, action='store_true', help='show where in the code an error arose')
    return parser


def read_first(name: str, parse_args: Callable[[], object]) -> None:
    """Reads the command line of a tool before the heavy imports that follow in its file.

    So help and a wrong option need no torch and no MMEngine, which take seconds. Garbage is not
    looked for until ``run_main``: imports make many objects that all stay.

    Args:
        name: ``__name__`` of the file; nothing is read where another imports it.
        parse_args: Reads the command line; the tool does so again when it runs.
    """
    if name == '__main__':
        parse_args()
        gc.disable()


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--cfg-options``, a dict of values by dotted key."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_ReadOptions,
        default={},
        metavar='KEY=VALUE',
        help='override values of the config, for instance data_root=FOLDER batch_size=64',
    )


def parse_value(text: str) -> Any:
    """The value that a text on the command line stands for.

    Numbers, ``True``, ``False`` and ``None`` (and ``true``, ``false``) are what they are in Python;
    ``[a, b]`` and ``a,b`` are lists, ``(a, b)`` a tuple, nested at will. All else is a string, and
    so is what stands in quotation marks.

    Raises:
        ValueError: If brackets do not match.

    >>> parse_value('1e-5'), parse_value('None'), parse_value('/my data/CUHK')
    (1e-05, None, '/my data/CUHK')
    >>> parse_value('[(1, 2), [a, b], "c,d"]'), parse_value('384,128')
    ([(1, 2), ['a', 'b'], 'c,d'], [384, 128])
    """
    text = text.strip()
    parts = _split(text)
    if len(parts) > 1:
        return [parse_value(part) for part in parts]
    ends = text[:1] + text[-1:]
    if ends in BRACKETS:
        return BRACKETS[ends](map(parse_value, _split(text[1:-1])))
    if ends in ('""', "''") and len(text) > 1:
        return text[1:-1]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return WORDS.get(text, text)


def _split(text: str) -> list[str]:
    """Parts between the commas that stand in no brackets and no quotation marks."""
    parts, open_brackets, quote = [''], [], ''
    for character in text:
        if quote:
            quote = '' if character == quote else quote
        elif character in '"\'':
            quote = character
        elif character in '[(':
            open_brackets.append(character)
        elif character in '])':
            if not open_brackets or open_brackets.pop() + character not in BRACKETS:
                raise ValueError(f'brackets do not match in {text!r}')
        if character == ',' and not open_brackets and not quote:
            parts.append('')
        else:
            parts[-1] += character
    if open_brackets:
        raise ValueError(f'brackets do not match in {text!r}')
    # As in Python, a comma may follow the last part.
    return parts if parts[-1].strip() else parts[:-1]


def run_main(main: Callable[[], None]) -> None:
    """Runs a tool; what is wrong with its input is one line, and the exit status 1.

    With ``--debug``, which ``tool_parser`` knows, it is the traceback. What the imports left is
    never looked through for garbage: MMEngine does so for each data set, which takes it 0.2 s.
    """
    gc.freeze()
    gc.enable()
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (OSError, ValueError, KeyError, ImportError, FloatingPointError) as error:
        if DEBUG in sys.argv:
            raise
        sys.exit(f'{Path(sys.argv[0]).name}: {error_line(error)}')


class _ReadOptions(argparse.Action):
    """Adds to those of an earlier ``--cfg-options``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        options = dict(getattr(namespace, self.dest))
        for text in values:
            key, equals, value = text.partition('=')
            if not equals:
                parser.error(f'{option_string} takes KEY=VALUE, got {text!r}')
            try:
                options[key] = parse_value(value)
            except ValueError as error:
                parser.error(f'{option_string} {key}: {error}')
        setattr(namespace, self.dest, options)
