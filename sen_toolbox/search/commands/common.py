"""What subcommands share: the arguments that open a model and a gallery, and how they print."""

import argparse
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sen_toolbox.inference.loading import import_parts
from sen_toolbox.messages import printable

if TYPE_CHECKING:
    from sen_toolbox.search.person_search import PersonSearch


def add_model_arguments(group: argparse._ArgumentGroup) -> None:
    """Adds model, checkpoint, and modules for :func:`import_parts`."""
    group.add_argument(
        '--model',
        metavar='FILE|NAME',
        help='model file, config, or a model of open_clip: open_clip:NAME/TAG, hf-hub:ORG/NAME; '
        'sen-search models lists some (default: the named one that made the index, or the shipped '
        'small one)',
    )
    group.add_argument('--checkpoint', metavar='FILE', help='checkpoint, if --model is a config')
    group.add_argument(
        '--import',
        dest='imports',
        action='append',
        default=[],
        metavar='MODULE',
        help='module with parts of a model file that are not of the toolbox, such as projects.mine',
    )


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds model, index and device."""
    group = parser.add_argument_group('model and index')
    add_model_arguments(group)
    add_index_arguments(group)
    group.add_argument(
        '--device', default='cpu', help='cpu (default) or cuda, which computes in float16'
    )


def add_index_arguments(group: argparse._ArgumentGroup) -> None:
    """Adds where the index is."""
    group.add_argument(
        '--index',
        metavar='FOLDER',
        default='sen_index',
        help='folder of the index (default: %(default)s); with --uri the name of a collection',
    )
    group.add_argument(
        '--uri',
        metavar='URI',
        help='a Milvus server, http://host:19530, or a file *.db for Milvus Lite',
    )


def open_search(args: argparse.Namespace, *, half_index: bool = False) -> 'PersonSearch':
    """The search that the arguments describe."""
    with _nothing_collected():
        from sen_toolbox.search.person_search import PersonSearch

        import_parts(args.imports)
        return PersonSearch(
            args.model,
            checkpoint=args.checkpoint,
            index=args.index,
            uri=args.uri,
            device=args.device,
            half_index=half_index,
        )


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Looks for no garbage while torch is imported, nor later among what it defines.

    The first takes 0.4 s, and the second, which happens once in an indexing, 0.2 s.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 1')
    return int(text)


def say(text: str) -> None:
    """Prints a line of the result; names in it are foreign."""
    sys.stdout.write(printable(text) + '\n')


def note(text: str) -> None:
    """Prints a line beside the result."""
    sys.stderr.write(printable(text) + '\n')
