"""The command ``sen-search``. Each subcommand is a module with HELP, add_arguments and run."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from sen_toolbox import __version__
from sen_toolbox.messages import error_line, printable
from sen_toolbox.search.commands.common import note

# In the order of the help. The modules import what is heavy when they run.
COMMANDS = ('index', 'query', 'serve', 'info', 'remove', 'models', 'export', 'completion')
OK, FAULT, USAGE = 0, 1, 2
DESCRIPTION = """\
Find people in a folder of images by describing them.

  sen-search index crops/                                  once, and again after changes
  sen-search query "a woman in a red coat, blue jeans"     as often as you like
  sen-search query "..." --html found.html                 a page to look at
  sen-search index photos/ videos/ --detect                cut the people out first
  sen-search info                                          what the index holds

Without --detect the images are crops of one person each. Everything stays on this machine. The
model that comes with the package has seen drawn people only; real use takes another:
--model open_clip:ViT-B-16/openai (sen-search models lists more), --model FILE.safetensors, or
--model CONFIG.py --checkpoint FILE.pth.
"""
EPILOG = """\
exit codes:
  0  done
  1  a fault in the input: no such file, a damaged index, images that were skipped, ...
  2  a command line that makes no sense
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # It repeats arguments, which may be names of files that a shell filled in.
        super().error(printable(message))


def make_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands; ``run`` of the chosen one is in the arguments."""
    parser = _Parser(
        prog='sen-search',
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'sen-search {__version__}')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for name in COMMANDS:
        module = import_module(f'sen_toolbox.search.commands.{name}')
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns its exit code."""
    # File names are bytes, and those that are not text must not stop the output.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')
    # What is wrong with a picture is said once and with its name, without Pillow's remarks.
    warnings.filterwarnings('ignore', module=r'PIL\.')
    args = make_parser().parse_args(arguments)
    try:
        status = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever reads has enough, as `head` has. Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (OSError, ValueError, KeyError, ModuleNotFoundError) as error:
        note(f'sen-search: {error_line(error)}')
        return FAULT
    except KeyboardInterrupt:
        note('sen-search: interrupted; what was committed is kept')
        return FAULT


if __name__ == '__main__':
    sys.exit(main())
